"""What people ask of runs, handed to the workflows' own functions."""

import json
from dataclasses import dataclass
from typing import Any

from autopilot.api.context import ApiContext
from autopilot.api.schemas import RunAccepted
from autopilot.api.workflow_client import FunctionAnswer
from autopilot.core.runs.identity import run_id_of
from autopilot.errors import FunctionUnavailable, RunNotFound
from autopilot.function.trigger import RERUN_HEADER, TRIGGER_HEADER, identity_of_key
from autopilot.models import RunStatus, TriggerType, WorkflowRun

_RELAYED = frozenset({400, 404, 409, 413, 415, 422, 503})
_GOES_ON = frozenset({"attempt_ended", "attempt_superseded"})


class FunctionRefusal(Exception):
    """The workflow's function refused what was asked: its status and its error, to be told as they are."""

    def __init__(self, status: int, code: str, message: str, details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details


@dataclass(frozen=True, slots=True)
class RunActions:
    """Trigger, retry, rerun, cancel, delete. ``wait`` is how many seconds the function's answer is waited for.

    Raises, all of them:
        WorkflowNotFound, RunNotFound: there is none.
        FunctionRefusal: the workflow's function says no.
        FunctionUnavailable: it says nothing.
    """

    context: ApiContext

    async def trigger(
        self, workflow: str, payload: bytes, *, key: str | None, wait: float, rerun_of: str | None = None
    ) -> RunAccepted:
        """Start a run. Its id follows from ``key``, so that it is known before the function answers."""
        name = self.context.catalog[workflow].manifest.name
        key = key or self.context.new_id()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            TRIGGER_HEADER: TriggerType.MANUAL.value,
        }
        if rerun_of is not None:
            headers[RERUN_HEADER] = rerun_of
        answer = await self.context.client.post(name, "/", content=payload, headers=headers, wait=wait)
        return _accepted(name, run_id_of(name, identity_of_key(key)), answer)

    async def rerun(self, workflow: str, run_id: str, *, key: str | None, wait: float) -> RunAccepted:
        """Start a new run of the same payload."""
        run = await self.find(workflow, run_id)
        payload = json.dumps(run.trigger_data).encode()
        return await self.trigger(workflow, payload, key=key, wait=wait, rerun_of=run.id)

    async def retry(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        """Reopen a run that failed or was cancelled, at its first unrecorded step."""
        return await self._ask(workflow, run_id, "retry", wait)

    async def cancel(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        """Cancel a run that is not over, at its next step."""
        return await self._ask(workflow, run_id, "cancel", wait)

    async def delete(self, workflow: str, run_id: str) -> None:
        """Remove a run that is over, and its steps."""
        name = self.context.catalog[workflow].manifest.name
        if await self.context.archive().delete_run(name, run_id) is None:
            raise RunNotFound(name, run_id)

    async def find(self, workflow: str, run_id: str) -> WorkflowRun:
        """The run.

        Raises:
            WorkflowNotFound, RunNotFound
        """
        name = self.context.catalog[workflow].manifest.name
        run = await self.context.run_log().get_run(name, run_id)
        if run is None:
            raise RunNotFound(name, run_id)
        return run

    async def _ask(self, workflow: str, run_id: str, action: str, wait: float) -> RunAccepted:
        run = await self.find(workflow, run_id)
        answer = await self.context.client.post(run.workflow_id, f"/runs/{run.id}/{action}", wait=wait)
        return _accepted(run.workflow_id, run.id, answer)


def _accepted(workflow: str, run_id: str, answer: FunctionAnswer | None) -> RunAccepted:
    location = f"/api/v1/workflows/{workflow}/runs/{run_id}"
    if answer is None:
        return RunAccepted(run_id=run_id, workflow_id=workflow, location=location, status=None)
    error = _error_of(answer)
    told = answer.headers.get("Autopilot-Run-Status")
    if told in set(RunStatus) and (error is None or error["code"] in {*_GOES_ON, "run_failed"}):
        replayed = answer.headers.get("Autopilot-Replayed") == "true"
        return RunAccepted(
            run_id=run_id, workflow_id=workflow, location=location, status=RunStatus(told), replayed=replayed
        )
    if error is not None and answer.status in _RELAYED:
        raise FunctionRefusal(answer.status, str(error["code"]), str(error.get("message", "")), error.get("details"))
    raise FunctionUnavailable(workflow, f"it answered {answer.status}, and not as a function of ours does")


def _error_of(answer: FunctionAnswer) -> dict[str, Any] | None:
    error = answer.body.get("error") if answer.status >= 400 and isinstance(answer.body, dict) else None
    return error if isinstance(error, dict) and "code" in error else None
