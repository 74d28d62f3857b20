"""Trigger, retry, rerun, cancel and delete: API, dashboard and command ask the workflows' own functions."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autopilot.api.catalog import CatalogEntry
from autopilot.api.context import ApiContext
from autopilot.api.queries import find_run, find_workflow
from autopilot.api.schemas import RunAccepted
from autopilot.api.workflow_client import FunctionAnswer
from autopilot.core.runs.identity import run_id_of
from autopilot.errors import FunctionUnavailable, RunNotFound
from autopilot.function.trigger import RERUN_HEADER, TRIGGER_HEADER, RequestRefused, identity_of_key
from autopilot.models import RunStatus, TriggerType

START_SECONDS = 30.0
"""How long, after the wait is over, the function may take to record that it has begun: a cold start."""

POLL_SECONDS = 0.5

_RELAYED = frozenset({400, 404, 409, 413, 415, 422, 503})
_GOES_ON = frozenset({"attempt_ended", "attempt_superseded"})


@dataclass(frozen=True, slots=True)
class RunActions:
    """Trigger, retry, rerun, cancel, delete.

    ``wait`` is in seconds. An action returns when the function has answered or, once ``wait`` is over, as soon as the
    run's record shows that the function has begun. Then the connection to the function is closed, so that no task of
    ours outlives the answer; the function finishes the run without us.

    ::

        function    cold start ── start recorded ── step ── step ── end recorded
        wait = 60   ─────────────────────────────────────────────────┤ returns the status it ended with
        wait = 5    ────┤─ ─ ─ ─ ─ ─ ─ ─ ┤ returns "running"

    Raises, all of them:
        WorkflowNotFound, RunNotFound
        RequestRefused: the function refuses it; or ``main.py`` no longer defines the workflow (409).
        FunctionUnavailable: the function cannot be reached, or nothing was recorded within ``wait`` + 30 s.
    """

    context: ApiContext

    async def trigger(
        self, workflow: str, payload: bytes, *, key: str | None, wait: float, rerun_of: str | None = None
    ) -> RunAccepted:
        """Start a run. Its id is derived from ``key``, so that it is known before the function answers."""
        name = require_defined(await find_workflow(self.context, workflow))
        key = key or self.context.new_id()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            TRIGGER_HEADER: TriggerType.MANUAL.value,
        }
        if rerun_of is not None:
            headers[RERUN_HEADER] = rerun_of
        run_id = run_id_of(name, identity_of_key(key))
        return await self._call(name, run_id, "/", content=payload, headers=headers, wait=wait)

    async def rerun(self, workflow: str, run_id: str, *, key: str | None, wait: float) -> RunAccepted:
        """Start a new run of the same payload."""
        _, run = await find_run(self.context, workflow, run_id)
        payload = json.dumps(run.trigger_data).encode()
        return await self.trigger(workflow, payload, key=key, wait=wait, rerun_of=run.id)

    async def retry(
        self, workflow: str, run_id: str, *, wait: float, again_interrupted: Sequence[str] = ()
    ) -> RunAccepted:
        """Reopen a failed or cancelled run, as a new attempt; :attr:`RunDetail.retry` has the steps that begin again.

        Args:
            again_interrupted: the keys, full or readable, of steps that begin again although they may already have
                taken effect. Without all of them the function refuses (``steps_interrupted``, 409).
        """
        confirmed = {"again_interrupted": list(again_interrupted)} if again_interrupted else None
        return await self._ask(workflow, run_id, "retry", wait, confirmed)

    async def cancel(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        """Cancel a run that is not over; its attempt stops at its next step."""
        return await self._ask(workflow, run_id, "cancel", wait)

    async def delete(self, workflow: str, run_id: str) -> None:
        """Remove a run that is over, and its steps. The function is not needed for it."""
        entry = await find_workflow(self.context, workflow)
        if await self.context.archive().delete_run(entry.name, run_id) is None:
            raise RunNotFound(entry.name, run_id)

    async def _ask(
        self, workflow: str, run_id: str, action: str, wait: float, body: dict[str, Any] | None = None
    ) -> RunAccepted:
        entry, run = await find_run(self.context, workflow, run_id)
        return await self._call(
            require_defined(entry),
            run.id,
            f"/runs/{run.id}/{action}",
            wait=wait,
            attempts_before=run.attempt,
            content=b"" if body is None else json.dumps(body).encode(),
            headers={} if body is None else {"Content-Type": "application/json"},
        )

    async def _call(
        self,
        workflow: str,
        run_id: str,
        path: str,
        *,
        wait: float,
        attempts_before: int = 0,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> RunAccepted:
        call = asyncio.create_task(self.context.client.post(workflow, path, content=content, headers=headers))
        try:
            async with self.context.clock.timeout(wait):
                return _accepted_from(workflow, run_id, await asyncio.shield(call))
        except TimeoutError:
            status = await self._begun_status(workflow, run_id, attempts_before, call)
            return (
                _accepted_from(workflow, run_id, call.result())
                if status is None
                else _accepted(workflow, run_id, status)
            )
        finally:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    async def _begun_status(
        self, workflow: str, run_id: str, attempts_before: int, call: asyncio.Task[FunctionAnswer]
    ) -> RunStatus | None:
        """The recorded status of the run once its record shows a new attempt; None: the call is answered first."""
        clock = self.context.clock
        ends_at = clock.monotonic() + START_SECONDS
        while not call.done():
            run = await self.context.run_log().get_run(workflow, run_id)
            if run is not None and run.attempt > attempts_before:
                return run.status
            if clock.monotonic() >= ends_at:
                raise FunctionUnavailable(
                    workflow, f"it neither answered nor recorded a start; look for run {run_id} before you ask again"
                )
            await clock.sleep(POLL_SECONDS)
        return None


def require_defined(entry: CatalogEntry) -> str:
    """The name of a workflow that has a function to call.

    Raises:
        RequestRefused: ``main.py`` no longer defines it.
    """
    if not entry.defined:
        raise RequestRefused(
            409,
            "workflow_not_defined",
            f"main.py no longer defines workflow {entry.name}, or the API could not load it",
        )
    return entry.name


def _accepted(workflow: str, run_id: str, status: RunStatus, *, replayed: bool = False) -> RunAccepted:
    location = f"/api/v1/workflows/{workflow}/runs/{run_id}"
    return RunAccepted(run_id=run_id, workflow_id=workflow, location=location, status=status, replayed=replayed)


def _accepted_from(workflow: str, run_id: str, answer: FunctionAnswer) -> RunAccepted:
    error = _error_of(answer)
    status = answer.headers.get("Autopilot-Run-Status")
    if status in set(RunStatus) and (error is None or error["code"] in {*_GOES_ON, "run_failed"}):
        replayed = answer.headers.get("Autopilot-Replayed") == "true"
        return _accepted(workflow, run_id, RunStatus(status), replayed=replayed)
    if error is not None and answer.status in _RELAYED:
        raise RequestRefused(answer.status, str(error["code"]), str(error.get("message", "")), error.get("details"))
    raise FunctionUnavailable(workflow, f"it answered {answer.status}, and not as a workflow's function does")


def _error_of(answer: FunctionAnswer) -> dict[str, Any] | None:
    error = answer.body.get("error") if answer.status >= 400 and isinstance(answer.body, dict) else None
    return error if isinstance(error, dict) and "code" in error else None
