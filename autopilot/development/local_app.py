"""One address for a whole bundle: each function at its name, and the API and dashboard at everything else."""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from autopilot.development.bundle_functions import LocalFunction
from autopilot.function.answers import error_response


class LocalApp:
    """Hands each request to whom its path names. Answers only to this machine.

    Any page in a developer's browser can send requests to an address of this machine. They are told by the page's
    origin; and where a site gave its own name our address, by the host they ask for.

    Args:
        functions: each is served below ``/<name>/``, and sees its own path only.
        api: what is served at every other path.
        port: of this machine, at which this is served.
    """

    def __init__(self, functions: Iterable[LocalFunction], api: ASGIApp, port: int) -> None:
        self._functions = {function.name: function.app for function in functions}
        self._api = api
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        if (reason := self._refusal(Headers(scope=scope))) is not None:
            await error_response(403, "not_local", reason)(scope, receive, send)
            return
        name, _, rest = scope["path"].lstrip("/").partition("/")
        app = self._functions.get(name)
        if app is None:
            await self._api(scope, receive, send)
        else:
            await app({**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}, receive, send)

    def _refusal(self, headers: Headers) -> str | None:
        if headers.get("host") not in self._hosts:
            return "autopilot dev answers to localhost only"
        if (origin := headers.get("origin")) is not None and origin not in self._origins:
            return "this comes from a page of another site"
        return None
