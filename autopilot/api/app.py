"""The application: API v1 and the dashboard behind one door."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from autopilot import observability
from autopilot.api.access import Access, AccessDenied
from autopilot.api.actions import FunctionRefusal
from autopilot.api.context import ApiContext, WorkflowCatalog
from autopilot.api.door import Boundary, Door, SecurityHeaders
from autopilot.api.errors import FilterInvalid, answer_exception, answer_invalid
from autopilot.api.events import Events
from autopilot.api.log_lines import ReadLog
from autopilot.api.reads import Reads
from autopilot.api.workflow_client import IdentityTokens, WorkflowClient
from autopilot.api.writes import Writes
from autopilot.base_workflow import BaseWorkflow
from autopilot.core import run_log as run_archive_module, run_log as run_log_module
from autopilot.core.clock import Clock, SystemClock, random_id
from autopilot.core.shutdown import PROCESS_SHUTDOWN, Shutdown
from autopilot.core.store import Store
from autopilot.dashboard.pages import Pages
from autopilot.errors import AutopilotError
from autopilot.settings import Settings
from autopilot.version import VERSION

API_PATH = "/api/v1"
STATIC = Path(__file__).parents[1] / "dashboard" / "static"

log = structlog.get_logger(__name__)


def create_app(
    workflows: Iterable[BaseWorkflow[Any, Any]],
    settings: Settings,
    *,
    store: Store | None = None,
    client: WorkflowClient | None = None,
    clock: Clock | None = None,
    new_id: Callable[[], str] = random_id,
    shutdown: Shutdown = PROCESS_SHUTDOWN,
    read_log: ReadLog | None = None,
    bundle: Path = Path(),
) -> ASGIApp:
    """API v1 and the dashboard over these workflows.

    Args:
        workflows: one instance of each; none of them is run here.
        settings: of this process.
        store: where the records are; default: the process's, looked up at each use.
        client: the workflows' functions; default: at the addresses that the settings name.
        clock: what is known of time.
        new_id: gives random ids.
        shutdown: tells when streams are to end.
        read_log: what runs logged, for their pages; default: from the file that the settings name, if they do.
        bundle: the folder of the workflows' code; default: the working directory.
    """
    clock = clock or SystemClock()
    context = ApiContext(
        settings=settings,
        catalog=WorkflowCatalog(workflows),
        run_log=lambda: store or run_log_module.get_run_log_service(),
        archive=lambda: store or run_archive_module.get_run_archive(),
        client=client
        or WorkflowClient(settings.function_urls, fetch_token=IdentityTokens() if settings.in_cloud else None),
        access=Access(settings, clock),
        clock=clock,
        new_id=new_id,
        shutdown=shutdown,
        read_log=read_log
        or (None if settings.log_file is None else partial(observability.read_log, settings.log_file)),
        bundle=bundle.resolve(),
    )
    door: ASGIApp = Door(_inside(context), context.access, api_path=API_PATH)
    if settings.api_cors_origins:
        door = CORSMiddleware(
            door,
            allow_origins=settings.api_cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "X-API-Key"],
            expose_headers=["Location"],
        )
    return Boundary(SecurityHeaders(door, in_cloud=settings.in_cloud))


def _inside(context: ApiContext) -> Starlette:
    pages = Pages(context)
    return Starlette(
        routes=[
            Mount(API_PATH, create_api(context)),
            Mount("/static", StaticFiles(directory=STATIC)),
            *pages.routes(),
        ],
        exception_handlers=dict.fromkeys(_HANDLED, pages.show_error),
    )


def create_api(context: ApiContext) -> FastAPI:
    """API v1, mounted under its path."""
    api = FastAPI(
        title="Autopilot",
        version=VERSION,
        description="The records of durable workflows, and what can be done with them.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for part in (Reads(context), Writes(context), Events(context)):
        api.include_router(part.router())
    for kind in _HANDLED:
        api.add_exception_handler(kind, _answer_exception)
    api.add_exception_handler(RequestValidationError, _answer_invalid)
    return api


_HANDLED: tuple[type[Exception], ...] = (
    AutopilotError,
    AccessDenied,
    FunctionRefusal,
    FilterInvalid,
    HTTPException,
    Exception,
)


async def _answer_exception(request: Request, error: Exception) -> Response:
    answer = answer_exception(error)
    if answer.status_code >= 500 and isinstance(error, AutopilotError):
        log.error("request_failed", path=request.url.path, status=answer.status_code, error=str(error))
    return answer


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is registered for
    return answer_invalid(list(error.errors()))
