"""One address for a whole bundle: each function at its name, and the API and dashboard everywhere else."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from functions_framework.aio import create_asgi_app_from_module
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from autopilot.base_workflow import BaseWorkflow
from autopilot.bundle import Bundle
from autopilot.function.answers import error_response
from autopilot.function.error_shape import ErrorShapeMiddleware
from autopilot.function.senders import check_host_header
from autopilot.function.trigger import RequestRefused
from autopilot.loopback import foreign


@dataclass(frozen=True, slots=True)
class LocalFunction:
    """A workflow's function inside functions-framework's own application."""

    name: str
    """In ``main.py``, and the first part of its path here."""
    workflow: BaseWorkflow[Any, Any]
    app: ASGIApp


def local_functions(main: ModuleType, bundle: Bundle) -> list[LocalFunction]:
    """The workflow functions of an imported ``main.py``."""
    return [
        LocalFunction(name, workflow(), create_asgi_app_from_module(name, main.__file__, "http", main, None))  # type: ignore[no-untyped-call]
        for name, workflow in bundle.workflows.items()
    ]


class LocalApp:
    """ASGI application that passes each request to the function or the API that its path names.

    Refuses requests that pages of other sites send to this machine.

    Args:
        allowed_hosts: host names at which it answers, beside those of this machine.
        functions: each is served below ``/<name>/``, and sees only what follows as its path.
        api: serves every other path.
        port: the port of this machine at which the application is served.
    """

    def __init__(
        self, functions: Iterable[LocalFunction], api: ASGIApp, port: int, allowed_hosts: Iterable[str] = ()
    ) -> None:
        self._functions = {function.name: ErrorShapeMiddleware(function.app) for function in functions}
        self._api = api
        self._port = port
        self._allowed_hosts = frozenset(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            check_host_header(headers)
            if (reason := foreign(headers, self._port, allowed=self._allowed_hosts)) is not None:
                raise RequestRefused(403, "not_local", reason)
        except RequestRefused as refused:
            await error_response(refused.status, refused.code, str(refused))(scope, receive, send)
            return
        name, _, rest = scope["path"].lstrip("/").partition("/")
        app = self._functions.get(name)
        if app is None:
            await self._api(scope, receive, send)
        else:
            await app({**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}, receive, send)
