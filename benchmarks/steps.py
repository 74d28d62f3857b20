"""Steps: beside one bare commit, and beside DBOS on SQLite, in one process and in turns."""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from autopilot import BaseWorkflow, RunContext, TriggerType, WorkflowManifest
from autopilot.core.clock import random_id
from autopilot.storage.sqlite.schema import migrate
from benchmarks.environment import cloud_logging, settings
from benchmarks.measure import Line, interleave, timed

STEPS = 20
AT_ONCE = 20
ROUNDS = 60

_PUT_STEP = """
    INSERT INTO steps (workflow_id, run_id, incarnation, key, status, attempt, tries, started_at, ended_at, result, expires_at)
    VALUES ('bench', ?, 'n', 'step', 'success', 1, 1, 0, 0, '1', 0)
"""


class Counting(BaseWorkflow):
    """Executes as many steps as the payload says; its result is the duration of one."""

    manifest = WorkflowManifest(name="counting")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> float:
        began = time.perf_counter()
        for number in range(payload["steps"]):
            await ctx.step("count", _same, number, key=number)
        seconds: float = (time.perf_counter() - began) / max(1, payload["steps"])
        return seconds


async def _same(number: int) -> int:
    return number


@contextmanager
def dbos_workflow(folder: str) -> Iterator[Callable[[int], Awaitable[float]]]:
    """Launch the same workflow on DBOS, which commits with ``synchronous = FULL`` too."""
    from dbos import DBOS

    DBOS(config={"name": "benchmark", "system_database_url": f"sqlite:///{folder}/dbos.db", "log_level": "ERROR"})

    @DBOS.step()  # type: ignore[untyped-decorator] # DBOS is not installed where types are checked
    async def same(number: int) -> int:
        return number

    @DBOS.workflow()  # type: ignore[untyped-decorator] # as above
    async def counting(steps: int) -> float:
        began = time.perf_counter()
        for number in range(steps):
            await same(number)
        return (time.perf_counter() - began) / max(1, steps)

    DBOS.launch()
    try:
        yield counting
    finally:
        DBOS.destroy()


async def measure() -> list[Line]:
    """Measure a step of ours beside one bare commit of the same row."""
    with (
        tempfile.TemporaryDirectory() as folder,
        cloud_logging(),
        settings(AUTOPILOT_STORE="sqlite", AUTOPILOT_SQLITE_PATH=f"{folder}/runs.db"),
        closing(sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection, "benchmark")

        async def commit() -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_PUT_STEP, (random_id(),))
            connection.execute("COMMIT")

        step, alone = await interleave(
            ROUNDS, warm_up=5, a_step_on_SQLite=_step_of(Counting()), its_commit_alone=timed(commit)
        )
    return [Line(measured=step, beside=alone, most_times=2.5)]


async def measure_beside_dbos() -> list[Line]:
    """Measure our runs and steps beside those of DBOS, one after the other and at once."""
    with (
        tempfile.TemporaryDirectory() as folder,
        cloud_logging(),
        settings(AUTOPILOT_STORE="sqlite", AUTOPILOT_SQLITE_PATH=f"{folder}/runs.db"),
        dbos_workflow(folder) as counting,
    ):
        ours = Counting()

        async def run(steps: int) -> None:
            await ours.run(TriggerType.MANUAL, {"steps": steps})

        async def at_once(start: Callable[[int], Awaitable[Any]], steps: int) -> float:
            began = time.perf_counter()
            await asyncio.gather(*(start(steps) for _ in range(AT_ONCE)))
            return (time.perf_counter() - began) / AT_ONCE

        samples = await interleave(
            ROUNDS,
            warm_up=5,
            a_run=timed(lambda: run(0)),
            a_run_on_DBOS=timed(lambda: counting(0)),
            a_step=_step_of(ours),
            a_step_on_DBOS=lambda: counting(STEPS),
            a_run_of_20_at_once=lambda: at_once(run, 0),
            a_run_of_20_at_once_on_DBOS=lambda: at_once(counting, 0),
            a_run_with_20_steps_of_20_at_once=lambda: at_once(run, STEPS),
            the_same_on_DBOS=lambda: at_once(counting, STEPS),
        )
    aims = (1 / 4, 1 / 6, None, None)
    pairs = zip(samples[::2], samples[1::2], aims, strict=True)
    return [Line(measured=measured, beside=beside, most_times=aim) for measured, beside, aim in pairs]


def _step_of(workflow: Counting) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        run = await workflow.run(TriggerType.MANUAL, {"steps": STEPS})
        seconds: float = run.result
        return seconds

    return measure
