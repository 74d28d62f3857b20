"""Pages of one run: its timeline, its steps, and the forms that act on it."""

import asyncio
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from autopilot.api.actions import RunActions
from autopilot.api.context import ApiContext
from autopilot.api.log_lines import LogLine, log_lines
from autopilot.api.queries import find_workflow, read_run, read_step
from autopilot.api.tracebacks import SourceLocation, locate_last_error
from autopilot.dashboard.formatting import pretty_json
from autopilot.dashboard.forms import WAIT_SECONDS, read_checked_form
from autopilot.dashboard.rendering import Renderer, redirect
from autopilot.dashboard.retry_form import UNCONFIRMED, confirmed_steps, retry_form
from autopilot.dashboard.timeline import timeline
from autopilot.errors import FunctionUnavailable, RunStateConflict
from autopilot.function.trigger import RequestRefused

SHOWN_CHARACTERS = 20_000
"""How much of a payload or result a page shows."""

SHOWN_LINES = 500
"""How many lines of a run's log a page shows, the latest."""

_NOTICES = {
    "trigger": "The run was started.",
    "retry": "The run is being retried, as a new attempt.",
    "rerun": "This is the new run, with the same payload.",
    "cancel": "The run was cancelled. Its attempt stops at its next step.",
}


@dataclass(frozen=True, slots=True)
class RunLog:
    """The log of a run."""

    lines: list[LogLine]
    """The latest lines."""
    earlier: int
    """The number of lines before them."""
    raised_at: SourceLocation | None
    """The line of code that raised the last exception."""


class RunPages:
    """Pages of one run."""

    def __init__(self, context: ApiContext, renderer: Renderer) -> None:
        self._context = context
        self._actions = RunActions(context)
        self._renderer = renderer

    async def show(
        self, request: Request, *, problem: str = "", status: int = 200, is_retry_open: bool = False
    ) -> Response:
        """The run, with a timeline of its attempts and steps.

        Args:
            is_retry_open: the dialog of the retry is open from the start, with or without scripts.
        """
        name, run_id = request.path_params["name"], request.path_params["run_id"]
        entry = await find_workflow(self._context, name)
        detail = await read_run(self._context, name, run_id)
        steps = {step.key: step for step in detail.steps}
        return self._renderer.page(
            request,
            "run.html",
            status=status,
            entry=entry,
            detail=detail,
            run=detail.run,
            cause=None if detail.failed_step is None else steps[detail.failed_step],
            retry=None if detail.retry is None else retry_form(detail.retry, detail.steps),
            is_retry_open=is_retry_open,
            timeline=timeline(
                detail,
                self._context.clock.now(),
                page=_page_number(request.query_params.get("steps")),
                only_failed=request.query_params.get("show") == "failed",
            ),
            payload=_shown(detail.run.trigger_data),
            result=_shown(detail.run.result),
            json_of=_shown,
            log=await self._read_log(run_id, detail.failed_step),
            new_key=self._context.new_id(),
            notice="" if problem else _NOTICES.get(request.query_params.get("did", ""), ""),
            problem=problem,
        )

    async def _read_log(self, run_id: str, failed_step: str | None) -> RunLog | None:
        if (read := self._context.read_log) is None:
            return None
        events = await asyncio.to_thread(lambda: list(read(run_id)))
        return RunLog(
            lines=log_lines(events)[-SHOWN_LINES:],
            earlier=max(0, len(events) - SHOWN_LINES),
            raised_at=locate_last_error(events, self._context.bundle, failed_step),
        )

    async def step(self, request: Request) -> Response:
        """One step with its whole result."""
        name, run_id = request.path_params["name"], request.path_params["run_id"]
        entry = await find_workflow(self._context, name)
        step = await read_step(self._context, name, run_id, request.query_params.get("key", ""))
        return self._renderer.page(
            request, "step.html", entry=entry, run_id=run_id, step=step, text=pretty_json(step.result)
        )

    async def act(self, request: Request) -> Response:
        """Retry, rerun, cancel or delete the run, and show the outcome."""
        form = await read_checked_form(request, self._context.access)
        name, run_id = request.path_params["name"], request.path_params["run_id"]
        action = request.path_params["action"]
        try:
            match action:
                case "retry":
                    accepted = await self._actions.retry(
                        name, run_id, wait=WAIT_SECONDS, again_interrupted=confirmed_steps(form)
                    )
                case "cancel":
                    accepted = await self._actions.cancel(name, run_id, wait=WAIT_SECONDS)
                case "rerun":
                    key = form.get("key") or None
                    accepted = await self._actions.rerun(name, run_id, key=key, wait=WAIT_SECONDS)
                case "delete":
                    await self._actions.delete(name, run_id)
                    return redirect(request, f"/workflows/{name}?did=delete")
                case _:
                    raise HTTPException(404)
        except RequestRefused as refused:
            if refused.code == "steps_interrupted":
                return await self.show(request, problem=UNCONFIRMED, status=refused.status, is_retry_open=True)
            return await self.show(request, problem=str(refused), status=refused.status)
        except (FunctionUnavailable, RunStateConflict) as error:
            status = 409 if isinstance(error, RunStateConflict) else 502
            return await self.show(request, problem=str(error), status=status)
        return redirect(request, f"/workflows/{name}/runs/{accepted.run_id}?did={action}")


def _shown(value: object) -> tuple[str, int]:
    """Readable JSON, and the number of characters that were cut off."""
    text = pretty_json(value)
    if len(text) <= SHOWN_CHARACTERS:
        return text, 0
    return text[:SHOWN_CHARACTERS], len(text) - SHOWN_CHARACTERS


def _page_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 6 else None
