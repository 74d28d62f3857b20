"""Pages for errors."""

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from autopilot.api.errors import answer_exception
from autopilot.api.paths import route_path
from autopilot.dashboard.rendering import Renderer
from autopilot.errors import RunNotFound, StepNotFound, StoreError, WorkflowNotFound
from autopilot.function.trigger import RequestRefused

log = structlog.get_logger(__name__)


class ErrorPages:
    """Turn an exception into a page."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    async def show(self, request: Request, error: Exception) -> Response:
        """The page for ``error``; under ``/api/``, where no route matched, an answer in JSON."""
        if route_path(request.scope).startswith("/api/"):
            return answer_exception(error)
        match error:
            case StoreError():
                log.error("request_failed", path=request.url.path, status=503, error=str(error))
                return self._renderer.page(request, "store_away.html", status=503, reason=str(error))
            case WorkflowNotFound() | RunNotFound() | StepNotFound():
                return self._page(request, 404, "Not found", str(error))
            case RequestRefused():
                return self._page(request, error.status, "Refused", str(error))
            case HTTPException():
                title = "Not found" if error.status_code == 404 else "Not possible"
                detail = "There is no page at this address." if error.status_code == 404 else error.detail
                return self._page(request, error.status_code, title, detail)
            case _:
                return self._page(request, 500, "Internal error", "The log of the API function has the details.")

    def _page(self, request: Request, status: int, title: str, message: str) -> Response:
        return self._renderer.page(request, "error.html", status=status, title=title, message=message)
