"""``python -m benchmarks``: measure everything that this machine can, and print one table."""

import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks import cold_start, engine, firestore, history, sqlite, steps
from benchmarks.measure import Line, table
from tests.emulator import EmulatorMissing, emulator


def main() -> None:
    topics: dict[str, Callable[[], Coroutine[None, None, list[Line]]]] = {
        "the engine": engine.measure,
        "SQLite": sqlite.measure,
        "steps": steps.measure,
        "cold starts on SQLite": cold_start.measure_sqlite,
        "histories of a thousand runs and more": history.measure,
        "the API's start": history.measure_start,
    }
    skipped: list[str] = []
    if find_spec("dbos"):
        topics["DBOS beside us"] = steps.measure_beside_dbos
    else:
        skipped.append("DBOS was not measured: it is not installed (requirements-bench.txt)")
    lines: list[Line] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            host = stack.enter_context(emulator(folder))
        except EmulatorMissing as missing:
            skipped.append(f"Firestore was not measured: {missing}")
        else:
            topics["Firestore"] = partial(firestore.measure, host)
            topics["cold starts on Firestore"] = partial(cold_start.measure_firestore, host)
        for name, measure in topics.items():
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            lines += asyncio.run(measure())
    print(table(lines))
    print(f"\n{_conditions()}")
    for reason in skipped:
        print(reason)


def _conditions() -> str:
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"Python {platform.python_version()}, {os.cpu_count()} CPUs; load of the last 1, 5, 15 minutes: {busy}"


main()
