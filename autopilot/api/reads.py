"""The calls of API v1 that look."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AfterValidator, AwareDatetime
from starlette.responses import Response

from autopilot.api.context import ApiContext
from autopilot.api.errors import FilterInvalid, documented
from autopilot.api.overview import all_of, read_activity, read_workflow, window_length
from autopilot.api.run_detail import run_detail, step_detail
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
    summary_of,
)
from autopilot.core.runs.activity import ACTIVITY_KEPT
from autopilot.core.store import RunFilter
from autopilot.errors import RunNotFound, StepNotFound, StoreError
from autopilot.function.answers import json_response
from autopilot.models import RunStatus, TriggerType
from autopilot.version import VERSION

WINDOW = r"^([1-9][0-9]{0,2}d|[1-9][0-9]{0,3}h)$"


def _to_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is out of range in UTC") from None


QueryTime = Annotated[AwareDatetime, AfterValidator(_to_utc)]
Name = Annotated[str, Path(description="The workflow's name.")]
RunIdentifier = Annotated[str, Path(description="The run's id.")]


class RunQuery:
    """The filters of a list of runs, as FastAPI reads them from a URL."""

    def __init__(
        self,
        *,
        status: Annotated[RunStatus | None, Query(description="Only runs in this status.")] = None,
        trigger: Annotated[
            TriggerType | None, Query(description="Only runs that this kind of thing asked for.")
        ] = None,
        since: Annotated[QueryTime | None, Query(description="Started at or after.")] = None,
        until: Annotated[QueryTime | None, Query(description="Started before.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = PAGE_SIZE,
        start_after: Annotated[str | None, Query(description="``next_cursor`` of the page before.")] = None,
    ) -> None:
        self.status, self.trigger = status, trigger
        self.since, self.until = since, until
        self.limit, self.start_after = limit, start_after

    def filter(self, workflow: str | None) -> RunFilter:
        """What the store is asked for.

        Raises:
            FilterInvalid: ``until`` is not after ``since``.
        """
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise FilterInvalid("until", "it must be after since")
        return RunFilter(
            workflow_id=workflow,
            status=self.status,
            trigger_type=self.trigger,
            since=self.since,
            until=self.until,
        )


async def read_page(context: ApiContext, wanted: RunFilter, limit: int, start_after: str | None) -> RunPage:
    """One page of runs."""
    runs, cursor = await context.archive().find_runs(wanted, limit=limit, start_after=start_after)
    return RunPage(runs=[summary_of(run) for run in runs], next_cursor=cursor)


class Reads:
    """What can be looked at."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def router(self) -> APIRouter:
        """The calls and their answers."""
        router = APIRouter()
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
            router.add_api_route(path, endpoint, methods=["GET"], responses=answers, response_model=None)
        health: dict[int | str, dict[str, Any]] = {200: {"model": HealthReport}, **documented()}
        health[503] = {"model": HealthReport, "description": "The store is away."}
        router.add_api_route("/health", self.get_health, methods=["GET"], responses=health, response_model=None)
        return router

    async def get_health(self) -> Response:
        """Version, store, and whether the store answers."""
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
        workflows = await all_of(read_workflow(self._context, entry) for entry in self._context.catalog)
        return json_response(WorkflowPage(workflows=workflows))

    async def get_workflow(self, name: Name) -> Response:
        """A workflow: its manifest, its payload's schema, its statistics."""
        return json_response(await read_workflow(self._context, self._context.catalog[name]))

    async def get_stats(self, name: Name, window: Annotated[str, Query(pattern=WINDOW)] = "7d") -> Response:
        """What ended when, and how long it took: by the hour up to 48 h, else by the day (UTC)."""
        entry = self._context.catalog[name]
        if window_length(window) > ACTIVITY_KEPT:
            raise FilterInvalid("window", f"at most {ACTIVITY_KEPT.days}d")
        return json_response(await read_activity(self._context, entry.manifest.name, window))

    async def list_runs(self, query: Annotated[RunQuery, Depends()]) -> Response:
        """The runs of all workflows, newest first."""
        return json_response(await read_page(self._context, query.filter(None), query.limit, query.start_after))

    async def list_runs_of_workflow(self, name: Name, query: Annotated[RunQuery, Depends()]) -> Response:
        """The runs of one workflow, newest first."""
        wanted = query.filter(self._context.catalog[name].manifest.name)
        return json_response(await read_page(self._context, wanted, query.limit, query.start_after))

    async def get_run(self, name: Name, run_id: RunIdentifier) -> Response:
        """A run with its attempts and steps."""
        return json_response(await read_run(self._context, name, run_id))

    async def get_step(self, name: Name, run_id: RunIdentifier, key: Annotated[str, Query()]) -> Response:
        """One step of a run, with its whole result."""
        return json_response(await find_step(self._context, name, run_id, key))


async def read_run(context: ApiContext, workflow: str, run_id: str) -> RunDetail:
    """A run with all that is recorded of it.

    Raises:
        WorkflowNotFound, RunNotFound
    """
    name = context.catalog[workflow].manifest.name
    run = await context.run_log().get_run(name, run_id)
    if run is None:
        raise RunNotFound(name, run_id)
    return run_detail(run, await context.archive().get_run_steps(name, run_id), context.settings)


async def find_step(context: ApiContext, workflow: str, run_id: str, key: str) -> StepDetail:
    """One step of a run, with its whole result.

    Raises:
        WorkflowNotFound, StepNotFound
    """
    name = context.catalog[workflow].manifest.name
    steps = await context.archive().get_run_steps(name, run_id)
    step = next((step for step in steps if step.key == key), None)
    if step is None:
        raise StepNotFound(run_id[:128], key)
    return step_detail(step)
