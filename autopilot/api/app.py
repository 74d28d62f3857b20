"""API v1 as an ASGI application, and what it shares with the dashboard: context, middleware, error answers."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from autopilot import observability
from autopilot.api.access import Access
from autopilot.api.catalog import WorkflowCatalog
from autopilot.api.context import ApiContext
from autopilot.api.errors import answer_exception, answer_invalid
from autopilot.api.events import Events
from autopilot.api.identity_tokens import IdentityTokens
from autopilot.api.log_lines import ReadLog
from autopilot.api.middleware import AuthMiddleware, DeadlineMiddleware, ErrorMiddleware, SecurityHeadersMiddleware
from autopilot.api.reads import Reads
from autopilot.api.workflow_client import WorkflowClient
from autopilot.api.writes import Writes
from autopilot.base_workflow import BaseWorkflow
from autopilot.core import run_log as run_log_module
from autopilot.core.clock import Clock, SystemClock, random_id
from autopilot.core.shutdown import PROCESS_SHUTDOWN, Shutdown
from autopilot.core.store import Store
from autopilot.errors import AutopilotError
from autopilot.function.error_shape import ErrorShapeMiddleware
from autopilot.function.trigger import RequestRefused
from autopilot.settings import Settings
from autopilot.version import VERSION

API_PATH = "/api/v1"

HANDLED_ERRORS: tuple[type[Exception], ...] = (AutopilotError, RequestRefused, HTTPException, Exception)
"""What an application must have handlers for, so that every error is answered in its own form."""

log = structlog.get_logger(__name__)


def create_context(
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
) -> ApiContext:
    """The dependencies of the API and the dashboard.

    Args:
        workflows: one instance of each; none of them is run here.
        settings: of this process.
        store: where the records are; default: the process's store, looked up at each use.
        client: calls the workflows' functions; default: at the addresses in the settings.
        clock: all times and time limits.
        new_id: makes random ids.
        shutdown: ends the streams when the process ends.
        read_log: reads what a run logged; default: from the log file in the settings, if there is one.
        bundle: the folder of the workflows' code; default: the working directory.
    """
    clock = clock or SystemClock()
    return ApiContext(
        settings=settings,
        catalog=WorkflowCatalog(workflows),
        run_log=lambda: store or run_log_module.get_run_log_service(),
        archive=lambda: store or run_log_module.get_run_archive(),
        client=client
        or WorkflowClient(settings.function_urls, fetch_token=IdentityTokens() if settings.in_cloud else None),
        access=Access(settings, clock, lambda: store or run_log_module.process_store()),
        clock=clock,
        new_id=new_id,
        shutdown=shutdown,
        read_log=read_log
        or (None if settings.log_file is None else partial(observability.read_log, settings.log_file)),
        bundle=bundle.resolve(),
    )


def protected(app: ASGIApp, context: ApiContext) -> ASGIApp:
    """``app`` behind authorization, CORS, security headers, the platform's deadline and the process boundary."""
    if (seconds := context.settings.request_timeout_seconds) is not None:
        app = DeadlineMiddleware(app, context.clock, seconds)
    app = AuthMiddleware(app, context.access, api_path=API_PATH)
    if context.settings.api_cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=context.settings.api_cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "X-API-Key"],
            expose_headers=["Location"],
        )
    secured = SecurityHeadersMiddleware(ErrorShapeMiddleware(app), in_cloud=context.settings.in_cloud)
    return ErrorMiddleware(secured)


def create_api(context: ApiContext) -> FastAPI:
    """API v1, to be mounted at :data:`API_PATH`."""
    api = FastAPI(
        title="Autopilot",
        version=VERSION,
        description="The records of durable workflows, and actions on them.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for part in (Reads(context), Writes(context), Events(context)):
        part.add_to(api)
    for kind in HANDLED_ERRORS:
        api.add_exception_handler(kind, _answer_exception)
    api.add_exception_handler(RequestValidationError, _answer_invalid)
    return api


async def _answer_exception(request: Request, error: Exception) -> Response:
    answer = answer_exception(error)
    if answer.status_code >= 500 and isinstance(error, AutopilotError):
        log.error("request_failed", path=request.url.path, status=answer.status_code, error=str(error))
    return answer


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is registered for
    return answer_invalid(list(error.errors()))
