"""What must hold of runs when all is over, whatever their processes went through."""

import json
from collections import Counter
from collections.abc import Sequence

from autopilot.models import RunStatus, StepStatus, WorkflowRun
from tests.chaos.conftest import Records
from tests.chaos.fleet import Body, Fleet
from tests.chaos.workflows import CUT_OFF


async def every_run_ended_once_and_right(fleet: Fleet, records: Records, runs: Sequence[WorkflowRun]) -> None:
    """Each run is recorded as it was answered, its result is what its steps recorded, and it is counted once."""
    assert len({run.id for run in runs}) == len(runs)
    bodies = fleet.bodies()
    assert bodies.keys() == {run.id for run in runs}
    for run in runs:
        assert run.status is RunStatus.SUCCESS, run
        assert await records.store.get_run(run.workflow_id, run.id) == run
        await _its_steps_count_once(run, bodies[run.id], records)
    await counts_are_exact(fleet, records, runs)


async def _its_steps_count_once(run: WorkflowRun, bodies: dict[str, list[Body]], records: Records) -> None:
    tokens: list[str] = run.result
    keys = [f"pass[{number}]" for number in range(len(tokens) - 1)]
    keys.insert(len(keys) // 2 + 1, "once")
    recorded = await records.steps(run)
    assert Counter(step.key for step in recorded) == dict.fromkeys(keys, 1)
    for step in recorded:
        told = CUT_OFF if step.status is StepStatus.INTERRUPTED else json.loads(step.result or "null")
        assert told == tokens[keys.index(step.key)], (run, step)
    for key, given, token in zip(keys, [run.id, *tokens], tokens, strict=False):
        executions = bodies[key]
        # Whoever executed the step went on from the one result that the step before it has.
        assert {body.given for body in executions} <= {given}, (run, key, executions)
        assert token in {body.token for body in executions} or token == CUT_OFF, (run, key, executions)
    assert len(bodies["once"]) <= 1, (run, bodies["once"])
    assert repeated(bodies) <= run.attempt - 1, (run, bodies)


def repeated(bodies: dict[str, list[Body]]) -> int:
    """How many executions there were beside the first of each step."""
    return sum(len(executions) - 1 for executions in bodies.values() if executions)


async def counts_are_exact(fleet: Fleet, records: Records, runs: Sequence[WorkflowRun]) -> None:
    by_status = dict(Counter(run.status.value for run in runs))
    workflow_id = runs[0].workflow_id
    stats = await records.store.get_stats(workflow_id)
    assert stats == {"total": len(runs), "successful": by_status.get("success", 0), "by_status": by_status}
    for server in fleet.servers:
        described = await fleet.describe(server)
        assert (described["total_runs"], described["by_status"]) == (len(runs), by_status)
        assert described["stale"] is False
        assert described["last_run"]["id"] == max(runs, key=lambda run: (run.started_at, run.id)).id
