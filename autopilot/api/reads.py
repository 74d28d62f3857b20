"""Read endpoints of API v1."""

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query
from pydantic import AfterValidator, Field
from starlette.responses import Response

from autopilot.api.context import ApiContext
from autopilot.api.errors import documented
from autopilot.api.queries import (
    RunQuery,
    find_workflow,
    read_activity,
    read_all,
    read_page,
    read_run,
    read_step,
    read_workflow,
    window_length,
)
from autopilot.api.schemas import (
    MAX_PAGE_SIZE,
    PAGE_SIZE,
    ActivityReport,
    HealthReport,
    RunDetail,
    RunPage,
    StepDetail,
    WorkflowDetail,
    WorkflowPage,
)
from autopilot.core.runs.activity import ACTIVITY_KEPT
from autopilot.errors import StoreError
from autopilot.function.answers import json_response
from autopilot.version import VERSION


def _check_is_kept(window: str) -> str:
    if window_length(window) > ACTIVITY_KEPT:
        raise ValueError(f"at most {ACTIVITY_KEPT.days}d")
    return window


Window = Annotated[str, Query(pattern=r"^([1-9][0-9]{0,2}d|[1-9][0-9]{0,3}h)$"), AfterValidator(_check_is_kept)]
Name = Annotated[str, Path(description="The workflow's name.")]
StepKey = Annotated[str, Query(description="The step's key, its id, or its readable key.")]
RunIdentifier = Annotated[str, Path(description="The run's id.")]


class PageQuery(RunQuery):
    """The filters and the page of a list of runs."""

    limit: int = Field(default=PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE)
    start_after: str | None = Field(default=None, description="``next_cursor`` of the page before.")


class Reads:
    """Read endpoints."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def add_to(self, api: FastAPI) -> None:
        """Add the routes and their documented answers: to the application, since a router's are built twice."""
        run = "/workflows/{name}/runs/{run_id}"
        for path, endpoint, model, errors in (
            ("/workflows", self.list_workflows, WorkflowPage, ()),
            ("/workflows/{name}", self.get_workflow, WorkflowDetail, (404,)),
            ("/workflows/{name}/stats", self.get_stats, ActivityReport, (404,)),
            ("/runs", self.list_runs, RunPage, ()),
            ("/workflows/{name}/runs", self.list_runs_of_workflow, RunPage, (404,)),
            (run, self.get_run, RunDetail, (404,)),
            (f"{run}/step", self.get_step, StepDetail, (404,)),
        ):
            answers: dict[int | str, dict[str, Any]] = {200: {"model": model}, **documented(*errors)}
            api.add_api_route(path, endpoint, methods=["GET"], responses=answers, response_model=None)
        health: dict[int | str, dict[str, Any]] = {200: {"model": HealthReport}, **documented()}
        health[503] = {"model": HealthReport, "description": "The store does not answer."}
        api.add_api_route("/health", self.get_health, methods=["GET"], responses=health, response_model=None)

    async def get_health(self) -> Response:
        """Version, store, and the state of the store."""
        settings = self._context.settings
        report = HealthReport(status="ok", version=VERSION, environment=settings.environment, store=settings.store)
        try:
            await self._context.archive().check_connection()
        except StoreError as error:
            away = report.model_copy(update={"status": "store_unavailable", "error": str(error)})
            return json_response(away, 503)
        return json_response(report)

    async def list_workflows(self) -> Response:
        """Every workflow of the bundle."""
        workflows = await read_all(read_workflow(self._context, entry) for entry in self._context.catalog)
        return json_response(WorkflowPage(workflows=workflows))

    async def get_workflow(self, name: Name) -> Response:
        """A workflow with its manifest, payload schema and statistics."""
        return json_response(await read_workflow(self._context, await find_workflow(self._context, name)))

    async def get_stats(self, name: Name, window: Window = "7d") -> Response:
        """Runs that ended and their durations: by the hour up to 48 h, else by the day (UTC)."""
        entry = await find_workflow(self._context, name)
        return json_response(await read_activity(self._context, entry.name, window))

    async def list_runs(self, query: Annotated[PageQuery, Query()]) -> Response:
        """Runs of all workflows, newest first."""
        return json_response(await read_page(self._context, query.filter(None), query.limit, query.start_after))

    async def list_runs_of_workflow(self, name: Name, query: Annotated[PageQuery, Query()]) -> Response:
        """Runs of one workflow, newest first."""
        entry = await find_workflow(self._context, name)
        wanted = query.filter(entry.name)
        return json_response(await read_page(self._context, wanted, query.limit, query.start_after))

    async def get_run(self, name: Name, run_id: RunIdentifier) -> Response:
        """A run with its attempts and steps, and the effect that a retry would have."""
        return json_response(await read_run(self._context, name, run_id))

    async def get_step(self, name: Name, run_id: RunIdentifier, key: StepKey) -> Response:
        """One step of a run, with its whole result."""
        return json_response(await read_step(self._context, name, run_id, key))
