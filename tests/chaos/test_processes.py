"""Processes that are stopped, told to end, flooded, or replaced by newer code, while a run is under way."""

import asyncio
import time

import pytest

from autopilot.models import RunStatus, StepStatus
from tests.chaos.conftest import Records, Serve
from tests.chaos.fleet import ended
from tests.chaos.ledger import counts_are_exact, every_run_ended_once_and_right

ZOMBIES = 12
"""Runs that are under way in a process when it is stopped."""

REPETITIONS = 300
"""Deliveries of one trigger at once."""

pytestmark = [pytest.mark.slow, pytest.mark.emulator, pytest.mark.timeout(120)]


async def test_what_a_process_does_that_was_stopped_past_its_leases_does_not_count(
    serve: Serve, firestore: Records
) -> None:
    fleet = await serve("relay", firestore)
    frozen, other = fleet.servers
    payloads = {f"{n}": {"steps": 4, "seconds": fleet.chance.uniform(0.05, 0.3)} for n in range(ZOMBIES)}
    deliveries = {id_: asyncio.ensure_future(fleet.deliver(frozen, id_, payloads[id_])) for id_ in payloads}
    await fleet.body_begins(f"pass[{fleet.chance.randint(0, 2)}]")
    await asyncio.sleep(fleet.chance.uniform(0, 0.3))  # a random moment is what is tried

    fleet.freeze(frozen)
    runs = await asyncio.gather(*(fleet.run_to_end(id_, payloads[id_], [other]) for id_ in payloads))
    begun = fleet.bodies()
    fleet.thaw(frozen)
    answers = await asyncio.gather(*deliveries.values())

    assert max(run.attempt for run in runs) > 1
    for run, answer in zip(runs, answers, strict=True):
        # What it says of its own, if it is a success, is what is recorded: it had ended the run in time, or looked.
        assert answer.status_code in {200, 503}, answer.text
        assert ended(answer) in (run, None)
        assert run.attempt == 1 or answer.status_code == 503 or answer.headers["Autopilot-Replayed"] == "true"
    assert fleet.bodies() == begun, "a body was begun behind a fence"
    await every_run_ended_once_and_right(fleet, firestore, runs)


async def test_a_process_that_is_told_to_end_gives_its_runs_free_at_once(serve: Serve, firestore: Records) -> None:
    fleet = await serve("long_relay", firestore)
    ending, other = fleet.servers
    payload = {"steps": 4, "seconds": 0.3}
    delivery = asyncio.ensure_future(fleet.deliver(ending, "once", payload))
    cut_off = await fleet.body_begins("pass[1]")
    began = time.monotonic()

    await asyncio.to_thread(ending.stop)
    answer = await delivery
    run = await fleet.run_to_end("once", payload, [other])

    assert time.monotonic() - began < 15, "it was not the end of a lease of five minutes that gave it free"
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "attempt_ended"
    assert "the instance is shut down" in answer.json()["error"]["message"]
    assert (run.status, run.attempt) == (RunStatus.SUCCESS, 2)
    executions = {step: len(bodies) for step, bodies in fleet.bodies()[run.id].items()}
    assert executions == {"pass[0]": 1, cut_off.step: 2, "pass[2]": 1, "once": 1, "pass[3]": 1}
    await asyncio.to_thread(ending.start)
    await every_run_ended_once_and_right(fleet, firestore, [run])


async def test_a_trigger_that_is_delivered_hundreds_of_times_at_once_is_executed_once(
    serve: Serve, firestore: Records
) -> None:
    fleet = await serve("long_relay", firestore)
    payload = {"steps": 3, "seconds": 0.1}

    runs = await asyncio.gather(*(fleet.run_to_end("the same", payload) for _ in range(REPETITIONS)))

    assert len(runs) == REPETITIONS
    assert all(run == runs[0] for run in runs)
    (steps,) = fleet.bodies().values()
    assert {step: len(bodies) for step, bodies in steps.items()} == {
        "pass[0]": 1,
        "pass[1]": 1,
        "once": 1,
        "pass[2]": 1,
    }
    await every_run_ended_once_and_right(fleet, firestore, runs[:1])


ORDER = """
from autopilot import BaseWorkflow, WorkflowManifest
from autopilot import entry_point
from tests.chaos.workflows import hand_on


class Order(BaseWorkflow):
    manifest = WorkflowManifest(name="order", timeout_seconds=2)

    async def execute(self, ctx, payload):
        return [await ctx.step(name, hand_on, ctx.run_id, name, "", seconds) for name, seconds in STEPS.items()]


order = entry_point("main:Order", name="order")
"""

OLDER = 'STEPS = {"check": 0, "reserve": 0, "pay": 0, "ship": 600}'
NEWER = 'STEPS = {"weigh": 0, "pay": 0, "check": 0, "ship": 0, "notify": 0}'
"""``reserve`` is gone, ``weigh`` and ``notify`` are new, ``pay`` comes before ``check``."""


async def test_a_run_goes_on_under_code_with_steps_added_moved_and_removed(serve: Serve, firestore: Records) -> None:
    fleet = await serve("order", firestore, bundle=ORDER + OLDER)
    caller = asyncio.ensure_future(fleet.run_to_end("x", {}))
    shipping = await fleet.body_begins("ship")
    for server in fleet.servers:
        await asyncio.to_thread(server.kill)

    fleet.source.write_text(ORDER + NEWER)
    await fleet.start()
    run = await caller

    steps = fleet.bodies()[run.id]
    assert {step: len(bodies) for step, bodies in steps.items()} == {
        "check": 1,
        "reserve": 1,
        "pay": 1,
        "ship": 2,
        "weigh": 1,
        "notify": 1,
    }
    assert run.result == [steps[step][-1].token for step in ("weigh", "pay", "check", "ship", "notify")]
    assert steps["ship"][0] == shipping
    assert {step.key: step.status for step in await firestore.steps(run)} == dict.fromkeys(steps, StepStatus.SUCCESS)
    await counts_are_exact(fleet, firestore, [run])
