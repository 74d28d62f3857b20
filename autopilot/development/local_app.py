"""One address for a whole bundle: each function at its name, and the API and dashboard at everything else."""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from autopilot.development.bundle_functions import LocalFunction
from autopilot.development.loopback import foreign_origin
from autopilot.function.answers import error_response


class LocalApp:
    """Hands each request to whom its path names. Answers only to this machine.

    Args:
        functions: each is served below ``/<name>/``, and sees its own path only.
        api: what is served at every other path.
        port: of this machine, at which this is served.
    """

    def __init__(self, functions: Iterable[LocalFunction], api: ASGIApp, port: int) -> None:
        self._functions = {function.name: function.app for function in functions}
        self._api = api
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        if (reason := foreign_origin(Headers(scope=scope), self._port)) is not None:
            await error_response(403, "not_local", reason)(scope, receive, send)
            return
        name, _, rest = scope["path"].lstrip("/").partition("/")
        app = self._functions.get(name)
        if app is None:
            await self._api(scope, receive, send)
        else:
            await app({**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}, receive, send)
