"""Signing in with the API key, and out."""

from starlette.requests import Request
from starlette.responses import Response

from autopilot.api.access import CSRF_FIELD
from autopilot.api.context import ApiContext
from autopilot.dashboard.forms import read_checked_form, read_form
from autopilot.dashboard.rendering import Renderer, local_path, redirect
from autopilot.function.trigger import RequestRefused

_PROBLEMS = {401: "That is not the key.", 429: "Too many wrong keys at the moment. Try again in a few seconds."}
_TOO_OLD = "This page was open for too long. Try again."


class SignInPages:
    """The page that asks for the API key, and the forms that sign in and out."""

    def __init__(self, context: ApiContext, renderer: Renderer) -> None:
        self._access = context.access
        self._renderer = renderer

    async def show(self, request: Request) -> Response:
        """Ask for the key."""
        problem = "Your session has ended. Sign in to continue." if "ended" in request.query_params else ""
        return self._page(request, request.query_params.get("next", "/"), problem)

    async def submit(self, request: Request) -> Response:
        """Check the key and begin a session."""
        form = await read_form(request)
        wanted = local_path(form.get("next", "/"))
        try:
            self._access.check_token(request, form.get(CSRF_FIELD))
            await self._access.check_key(form.get("key", ""))
        except RequestRefused as refused:
            return self._page(request, wanted, _PROBLEMS.get(refused.status, _TOO_OLD), refused.status)
        response = redirect(request, wanted)
        self._access.sign_in(response)
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        await read_checked_form(request, self._access)
        response = redirect(request, "/sign-in")
        await self._access.sign_out(request, response)
        return response

    def _page(self, request: Request, wanted: str, problem: str, status: int = 200) -> Response:
        if not self._access.needs_sign_in:
            return redirect(request, "/")
        return self._renderer.page(request, "sign_in.html", status=status, wanted=local_path(wanted), problem=problem)
