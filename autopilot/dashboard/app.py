"""The whole application that the API's function serves: the dashboard at the root, API v1 under its path."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from autopilot.api.app import API_PATH, HANDLED_ERRORS, create_api, protected
from autopilot.api.context import ApiContext
from autopilot.dashboard.error_pages import ErrorPages
from autopilot.dashboard.history_pages import HistoryPages
from autopilot.dashboard.rendering import Renderer
from autopilot.dashboard.run_pages import RunPages
from autopilot.dashboard.sign_in_pages import SignInPages
from autopilot.dashboard.trigger_pages import TriggerPages

STATIC = Path(__file__).parent / "static"


def create_app(context: ApiContext) -> ASGIApp:
    """API v1 and the dashboard over the workflows of :func:`autopilot.api.app.create_context`."""
    renderer = Renderer(context)
    application = Starlette(
        routes=[
            Mount(API_PATH, create_api(context)),
            Mount("/static", StaticFiles(directory=STATIC)),
            *_pages(context, renderer),
        ],
        exception_handlers=dict.fromkeys(HANDLED_ERRORS, ErrorPages(renderer).show),
    )
    application.router.redirect_slashes = False  # it would send a browser to whatever host the request names
    return protected(application, context)


def _pages(context: ApiContext, renderer: Renderer) -> list[Route]:
    history = HistoryPages(context, renderer)
    runs = RunPages(context, renderer)
    trigger = TriggerPages(context, renderer)
    sign_in = SignInPages(context, renderer)
    run = "/workflows/{name}/runs/{run_id}"
    return [
        Route("/", history.overview),
        Route("/runs", history.all_runs),
        Route("/workflows/{name}", history.workflow),
        Route("/workflows/{name}/trigger", trigger.show, methods=["GET"]),
        Route("/workflows/{name}/trigger", trigger.submit, methods=["POST"]),
        Route(run, runs.show),
        Route(f"{run}/step", runs.step),
        Route(f"{run}/{{action:str}}", runs.act, methods=["POST"]),
        Route("/sign-in", sign_in.show, methods=["GET"]),
        Route("/sign-in", sign_in.submit, methods=["POST"]),
        Route("/sign-out", sign_in.sign_out, methods=["POST"]),
    ]
