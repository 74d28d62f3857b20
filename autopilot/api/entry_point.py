"""API v1 and the dashboard as a Cloud Function."""

import sys
from collections.abc import Mapping
from functools import cached_property
from typing import Any, cast

import functions_framework.aio
import structlog
from starlette.requests import Request
from starlette.types import ASGIApp

from autopilot.bundle import read_bundle
from autopilot.function.entry_point import Function
from autopilot.observability import configure_logging
from autopilot.settings import function_target, load_settings

log = structlog.get_logger(__name__)


def api_entry_point(*, name: str = "api") -> Function:
    """Make API v1 and the dashboard a Cloud Function, over every workflow of the ``main.py`` that calls this.

    In ``main.py``, on any line::

        api = api_entry_point()

    Only the process that serves it imports the workflows, FastAPI and Jinja2.

    Args:
        name: the function's name, which must be that of the variable it is assigned to.

    Returns:
        An async function from a Starlette request to the application. ``serves_api`` marks it, with the name of the
        module whose workflows it serves.
    """
    namespace = sys._getframe(1).f_globals  # noqa: SLF001 - the module that calls this is the bundle
    served = ApiFunction(namespace)

    async def function(request: Request) -> ASGIApp:
        return served.app

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "Cloud Function of API v1 and the dashboard."
    # functions-framework calls what an aio function returns as the ASGI application that a response is.
    registered = cast("Function", functions_framework.aio.http(cast("Any", function)))
    vars(registered)["serves_api"] = namespace["__name__"]
    if function_target() == name:
        served.load()
    return registered


class ApiFunction:
    """API v1 and the dashboard over the workflows of a bundle; made at its first request.

    Args:
        namespace: the names of the bundle's ``main.py``, which may define more workflows further down.
    """

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace

    def load(self) -> None:
        """Import what is served and check the settings now rather than at the first request."""
        from autopilot.dashboard.app import create_app  # noqa: F401 - no workflow's function pays for FastAPI and Jinja2

        configure_logging(load_settings())

    @cached_property
    def app(self) -> ASGIApp:
        """The whole application. A workflow that cannot be loaded is logged, and left out.

        Raises:
            SourceInvalid: ``main.py`` defines functions that cannot work.
            SettingsInvalid: the settings cannot work here.
        """
        from autopilot.api.app import create_context
        from autopilot.dashboard.app import create_app

        settings = load_settings()
        configure_logging(settings)
        bundle = read_bundle(self._namespace)
        for function, error in bundle.errors.items():
            log.error("workflow_not_loaded", function=function, exc_info=error)
        workflows = [workflow() for workflow in bundle.workflows.values()]
        return create_app(create_context(workflows, settings, bundle=bundle.folder))
