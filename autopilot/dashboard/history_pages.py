"""Pages of many runs: all workflows, the history of one workflow, all runs."""

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from autopilot.api.catalog import CatalogEntry
from autopilot.api.context import ApiContext
from autopilot.api.queries import (
    find_workflow,
    read_activity,
    read_all,
    read_page,
    read_workflow,
    workflow_detail,
)
from autopilot.api.schemas import RunPage, RunSummary, WorkflowDetail, summary_of
from autopilot.core.store import RunFilter
from autopilot.dashboard.charts import STRIP_RUNS, Strip, Trend, duration_chart, outcome_chart, strip, trend
from autopilot.dashboard.forms import HistoryFilter, read_filter
from autopilot.dashboard.rendering import Renderer
from autopilot.errors import CursorInvalid
from autopilot.models import RunStatus, TriggerType

WINDOWS = ("24h", "7d", "30d", "90d")
TREND_WINDOW = "14d"
PAGE_SIZE = 50
ATTENTION = timedelta(hours=24)
"""How long a failed run stays under "Needs attention"."""

_ATTENTION_RUNS = 5


@dataclass(frozen=True, slots=True)
class WorkflowCard:
    """A workflow on the overview."""

    detail: WorkflowDetail
    strip: Strip
    trend: Trend


class HistoryPages:
    """Pages with lists of runs."""

    def __init__(self, context: ApiContext, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer

    async def overview(self, request: Request) -> Response:
        """All workflows, and the runs that need attention."""
        failed = RunFilter(status=RunStatus.FAILED, since=self._context.clock.now() - ATTENTION)
        cards = await read_all(self._card(entry) for entry in self._context.catalog)
        failures, more = await self._context.archive().find_runs(failed, limit=_ATTENTION_RUNS)
        paused = await self._context.run_log().get_paused_runs()
        return self._renderer.page(
            request,
            "overview.html",
            cards=cards,
            attention=[
                summary_of(run, defined=run.workflow_id in self._context.catalog)
                for run in [*paused[:_ATTENTION_RUNS], *failures]
            ],
            has_more_failures=more is not None,
            titles=self._titles(),
        )

    async def _card(self, entry: CatalogEntry) -> WorkflowCard:
        name = entry.name
        runs, _ = await self._context.run_log().list_runs(name, limit=STRIP_RUNS)
        stats = await self._context.run_log().get_stats(name)
        activity = await read_activity(self._context, name, TREND_WINDOW)
        detail = workflow_detail(entry, stats, runs[0] if runs else None, self._context.clock.now())
        return WorkflowCard(detail, strip(runs), trend(activity))

    async def workflow(self, request: Request) -> Response:
        """The charts and the history of one workflow."""
        entry = await find_workflow(self._context, request.path_params["name"])
        window = request.query_params.get("window", "7d")
        window = window if window in WINDOWS else "7d"
        detail = await read_workflow(self._context, entry)
        activity = await read_activity(self._context, entry.name, window)
        history = await self._history(request, entry.name)
        return self._renderer.page(
            request,
            "workflow.html",
            status=history.status,
            entry=entry,
            detail=detail,
            history=history,
            windows=[(each, _url({**dict(request.query_params), "window": each})) for each in WINDOWS],
            window=window,
            outcomes=outcome_chart(activity),
            durations=duration_chart(activity),
            titles=self._titles(),
            did=request.query_params.get("did", ""),
        )

    async def all_runs(self, request: Request) -> Response:
        """Runs of all workflows."""
        history = await self._history(request, None)
        return self._renderer.page(request, "runs.html", status=history.status, history=history, titles=self._titles())

    async def _history(self, request: Request, workflow: str | None) -> "History":
        chosen, problem = read_filter(request.query_params)
        start_after = request.query_params.get("start_after") or None
        try:
            page = await read_page(self._context, chosen.filter(workflow), PAGE_SIZE, start_after)
        except CursorInvalid as error:
            problem = f"This link belongs to another list ({error.reason}). This is the first page."
            page = await read_page(self._context, chosen.filter(workflow), PAGE_SIZE, None)
        kept = {name: value for name, value in request.query_params.items() if value and name != "did"}
        first = {name: value for name, value in kept.items() if name != "start_after"}
        return History(
            page=page,
            chosen=chosen,
            problem=problem,
            workflow=workflow,
            is_first=start_after is None,
            first_url=_url(first),
            older_url=None if page.next_cursor is None else _url({**first, "start_after": page.next_cursor}),
            window=kept.get("window"),
        )

    def _titles(self) -> dict[str, str]:
        return {entry.name: entry.title for entry in self._context.catalog}


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A page of a list of runs, with its filters and links."""

    page: RunPage
    chosen: HistoryFilter
    problem: str
    workflow: str | None
    is_first: bool
    first_url: str
    older_url: str | None
    window: str | None
    statuses: tuple[RunStatus, ...] = tuple(RunStatus)
    triggers: tuple[TriggerType, ...] = tuple(TriggerType)

    @property
    def status(self) -> int:
        """The HTTP status of the page."""
        return 422 if self.problem else 200

    @property
    def is_filtered(self) -> bool:
        """True if a filter is set."""
        return self.chosen != HistoryFilter()

    @property
    def slowest_ms(self) -> int:
        """The longest duration on the page, for which a bar has its full length."""
        return max((run.duration_ms or 0 for run in self.page.runs), default=0)

    def share(self, run: RunSummary) -> float:
        """The length of a run's bar in percent."""
        return round(max(1.5, 100 * (run.duration_ms or 0) / self.slowest_ms), 1) if self.slowest_ms else 0.0


def _url(query: dict[str, str]) -> str:
    return f"?{urlencode(query)}" if query else "?"
