"""API v1 and the dashboard as a Cloud Function."""

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import functions_framework.aio
import structlog
from starlette.requests import Request
from starlette.types import ASGIApp

from autopilot.bundle import read_bundle
from autopilot.errors import ConfigurationError
from autopilot.function.answers import answer_error
from autopilot.function.entry_point import Function
from autopilot.observability import configure_logging
from autopilot.settings import function_target, load_settings

log = structlog.get_logger(__name__)


def api_entry_point(*, name: str = "api") -> Function:
    """Make API v1 and the dashboard a Cloud Function, over every workflow of the ``main.py`` that calls this.

    In ``main.py``, on any line::

        api = api_entry_point()

    Only the process that serves it imports the workflows, FastAPI and Jinja2. A workflow that cannot be loaded is logged
    (``workflow_not_loaded``) and left out.

    Args:
        name: the function's name, which must be that of the variable it is assigned to.

    Returns:
        An async function from a Starlette request to the application. ``serves_api`` marks it, with the name of the
        module whose workflows it serves.
    """
    namespace = sys._getframe(1).f_globals  # noqa: SLF001 - the module that calls this is the bundle

    @cache
    def app() -> ASGIApp:
        return _app_of(namespace)  # at the first request: main.py may define more workflows further down

    async def function(request: Request) -> ASGIApp:
        try:
            return app()
        except ConfigurationError as error:  # of main.py or the settings, found again by each request
            log.error("request_failed", path=request.scope["path"], status=503, error=str(error))  # noqa: TRY400
            return answer_error(error)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "Cloud Function of API v1 and the dashboard."
    # functions-framework calls what an aio function returns as the ASGI application that a response is.
    registered = cast("Function", functions_framework.aio.http(cast("Any", function)))
    vars(registered)["serves_api"] = namespace["__name__"]
    if function_target() == name:
        from autopilot.dashboard.app import create_app  # noqa: F401 - no workflow's function pays for FastAPI and Jinja2

        configure_logging(load_settings())
    return registered


def _app_of(namespace: Mapping[str, Any]) -> ASGIApp:
    from autopilot.api.app import create_context
    from autopilot.dashboard.app import create_app

    settings = load_settings()
    configure_logging(settings)
    bundle = read_bundle(namespace)
    for function, error in bundle.errors.items():
        log.error("workflow_not_loaded", function=function, exc_info=error)
    workflows = [workflow() for workflow in bundle.workflows.values()]
    return create_app(create_context(workflows, settings, bundle=bundle.folder))
