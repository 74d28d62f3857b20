"""The pages that show one run, and one of its steps."""

import asyncio
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from autopilot.api.code_place import CodePlace, place_of_last_error
from autopilot.api.context import ApiContext
from autopilot.api.log_lines import LogLine, log_line
from autopilot.api.reads import find_step, read_run
from autopilot.api.schemas import RunDetail, StepDetail
from autopilot.dashboard.formatting import pretty_json
from autopilot.dashboard.rendering import Renderer
from autopilot.dashboard.timeline import timeline
from autopilot.errors import RunNotFound

SHOWN_CHARACTERS = 20_000
"""How much of a result or payload is shown at once."""

SHOWN_LINES = 500
"""How many of the latest lines of a run's log are shown."""

_SAID = {
    "trigger": "The run was started.",
    "retry": "The run is being retried, as a new attempt.",
    "rerun": "This is the new run, with the same payload.",
    "cancel": "The run was cancelled. What is at work stops at its next step.",
}


@dataclass(frozen=True, slots=True)
class RunLog:
    """What a run logged."""

    lines: list[LogLine]
    """The latest."""
    earlier: int
    """How many came before them."""
    raised_at: CodePlace | None
    """Where the last exception that it tells of was raised."""


class RunPages:
    """Pages of one run."""

    def __init__(self, context: ApiContext, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer

    async def show(self, request: Request, *, problem: str = "", status: int = 200) -> Response:
        """The run as a timeline of its attempts and steps."""
        name, run_id = request.path_params["name"], request.path_params["run_id"]
        entry = self._context.catalog[name]
        did = request.query_params.get("did", "")
        try:
            detail = await read_run(self._context, name, run_id)
        except RunNotFound:
            if did not in {"trigger", "rerun"}:
                raise
            return self._renderer.page(request, "run_starting.html", status=202, entry=entry, run_id=run_id)
        step = _cause(detail)
        return self._renderer.page(
            request,
            "run.html",
            status=status,
            entry=entry,
            detail=detail,
            run=detail.run,
            cause=step,
            cause_anchor=None if step is None else f"step-{[s.key for s in detail.steps].index(step.key)}",
            timeline=timeline(
                detail,
                self._context.clock.now(),
                page=_page_number(request.query_params.get("steps")),
                only_failed=request.query_params.get("show") == "failed",
            ),
            numbers={each.key: number for number, each in enumerate(detail.steps)},
            payload=_shown(detail.run.trigger_data),
            result=_shown(detail.run.result),
            json_of=_shown,
            log=await self._read_log(run_id),
            new_key=self._context.new_id(),
            said=_SAID.get(did, "") if not problem else "",
            problem=problem,
        )

    async def _read_log(self, run_id: str) -> RunLog | None:
        if (read := self._context.read_log) is None:
            return None
        events = await asyncio.to_thread(lambda: list(read(run_id)))
        return RunLog(
            lines=[log_line(event) for event in events[-SHOWN_LINES:]],
            earlier=max(0, len(events) - SHOWN_LINES),
            raised_at=place_of_last_error(events, self._context.bundle),
        )

    async def step(self, request: Request) -> Response:
        """One step with its whole result."""
        name, run_id = request.path_params["name"], request.path_params["run_id"]
        entry = self._context.catalog[name]
        step = await find_step(self._context, name, run_id, request.query_params.get("key", ""))
        return self._renderer.page(
            request, "step.html", entry=entry, run_id=run_id, step=step, text=pretty_json(step.result)
        )


def _cause(detail: RunDetail) -> StepDetail | None:
    return next((step for step in detail.steps if step.key == detail.failed_step), None)


def _shown(value: object) -> tuple[str, int]:
    """JSON for people, and how many characters of it were left out."""
    text = pretty_json(value)
    if len(text) <= SHOWN_CHARACTERS:
        return text, 0
    return text[:SHOWN_CHARACTERS], len(text) - SHOWN_CHARACTERS


def _page_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 6 else None
