"""The pages and API calls over histories of a thousand, a hundred thousand and a million runs, in SQLite."""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from autopilot import RunStatus, TriggerType, WorkflowRun
from autopilot.api.app import create_context
from autopilot.core.runs.activity import Tally, interval_of
from autopilot.core.store import BucketSize
from autopilot.dashboard.app import create_app
from autopilot.development.function_server import FunctionServer
from autopilot.settings import Settings
from autopilot.storage.sqlite.activity import CHANGE_TALLY, CREATE_TALLY, as_stored
from autopilot.storage.sqlite.store import SQLiteStore
from benchmarks.environment import cloud_logging
from benchmarks.measure import Line, Samples, interleave, timed
from benchmarks.workflow import PAYLOAD, Sum

MOST_TIMES = 1.5
ROUNDS = 60
SIZES = (1_000, 100_000, 1_000_000)

CALLS = {
    "statistics of": "/api/v1/workflows/{name}",
    "first page of": "/api/v1/workflows/{name}/runs",
    "first page of failed runs of": "/api/v1/workflows/{name}/runs?status=failed",
    "statistics by hour of": "/api/v1/workflows/{name}/stats?window=24h",
    "statistics by day of": "/api/v1/workflows/{name}/stats?window=30d",
    "the workflow's page over": "/workflows/{name}",
}

DURATION = "20 * (1 + i % 97) * (1 + i % 13)"
"""The duration of the run with this number, in milliseconds."""

_HOUR = 3_600_000_000
"""In microseconds."""


def a_run() -> WorkflowRun:
    """The run that the whole history copies."""
    now = datetime.now(UTC)
    return WorkflowRun(
        id="run",
        workflow_id=Sum.manifest.name,
        status=RunStatus.SUCCESS,
        trigger_type=TriggerType.SCHEDULE,
        trigger_data=PAYLOAD,
        started_at=now,
        completed_at=now,
        duration_ms=50,
        result={"name": "benchmark", "total": 6},
    )


def write_history(file: Path, runs: int) -> None:
    """Write rows as the store would, with the counts and the activity that follow from them.

    Copies of the one stored run, spread evenly over the last 30 days; every twentieth failed. Their durations go from
    20 ms to half a minute, so that a busy hour has most of the durations there are.
    """
    when = f"started_at - i * ({30 * 24 * _HOUR} / {runs})"
    changed = {
        "id": "printf('run-%08d', i)",
        "started_at": when,
        "completed_at": when,
        "status": "CASE WHEN i % 20 THEN 'success' ELSE 'failed' END",
        "duration_ms": DURATION,
        "changed": "i + 1",
    }
    with closing(sqlite3.connect(file)) as connection:
        indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '%runs%'")
        made_again = dict(indexes.fetchall())
        for name in made_again:
            connection.execute(f"DROP INDEX {name}")
        names = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info('runs')")]
        connection.execute(
            "WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < ?) "
            f"INSERT INTO runs ({', '.join(names)}) "
            f"SELECT {', '.join(changed.get(name, name) for name in names)} FROM runs, numbers WHERE id = 'run'",
            (runs - 1,),
        )
        for statement in ("DELETE FROM run_counts", "DELETE FROM activity", *made_again.values()):
            connection.execute(statement)
        connection.execute("UPDATE changes SET last = ?", (runs,))
        connection.execute("INSERT INTO run_counts SELECT workflow_id, status, count(*) FROM runs GROUP BY 1, 2")
        for size, length in ((BucketSize.HOUR, _HOUR), (BucketSize.DAY, 24 * _HOUR)):
            _write_activity(connection, size, length)
        connection.commit()


def _write_activity(connection: sqlite3.Connection, size: BucketSize, length: int) -> None:
    tallies: defaultdict[int, Tally] = defaultdict(Tally)
    counted = connection.execute(
        f"SELECT completed_at / {length} * {length}, status, duration_ms, count(*) FROM runs GROUP BY 1, 2, 3"
    )
    for start, status, duration_ms, runs in counted:
        tallies[start].by_status[status] += runs
        tallies[start].count_durations(interval_of(duration_ms), runs)
    for start, tally in tallies.items():
        place = (Sum.manifest.name, size.value, start)
        connection.execute(CREATE_TALLY, place)
        for status, runs in tally.by_status.items():
            connection.execute(CHANGE_TALLY[status], (runs, as_stored(tally.durations), *place))


async def measure() -> list[Line]:
    with tempfile.TemporaryDirectory() as folder, cloud_logging(), ExitStack() as stack:
        clients = {}
        for size in SIZES:
            store = SQLiteStore(Path(folder) / f"{size}.db")
            stack.callback(store.close)
            await store.save_run(a_run())
            write_history(Path(folder) / f"{size}.db", size)
            app: Any = create_app(create_context([Sum()], Settings(), store=store))
            clients[size] = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
        lines: list[Line] = []
        for name, path in CALLS.items():
            calls = {f"{name} {size:,} runs": timed(_asking(clients[size], path)) for size in SIZES}
            small, *larger = await interleave(ROUNDS, warm_up=10, **calls)
            lines += [Line(measured=each, beside=small, most_times=MOST_TIMES) for each in larger]
    return lines


def _asking(client: httpx.AsyncClient, path: str) -> Callable[[], Awaitable[object]]:
    async def ask() -> None:
        (await client.get(path.format(name=Sum.manifest.name))).raise_for_status()

    return ask


IMPORTING = """
import time
began = time.perf_counter()
import main, autopilot.dashboard.app, functions.feed_digest, functions.uptime_check
print(time.perf_counter() - began)
"""


async def measure_start() -> list[Line]:
    """The time that the API function needs for its imports, and until a person sees the first page."""
    imported = Samples("importing the API and its workflows", [_import_seconds() for _ in range(5)])
    lines = [Line(measured=imported)]
    path = shutil.which("chromium")
    if path is None:
        return lines
    with tempfile.TemporaryDirectory() as folder:
        env = {"AUTOPILOT_STORE": "sqlite", "AUTOPILOT_SQLITE_PATH": f"{folder}/runs.db"}
        with FunctionServer("api", env=env) as server:
            paints = await _first_paints(path, server.url)
    return [*lines, Line(measured=Samples("first paint of the first page", paints))]


PAINTED = """
    new Promise((resolve) => new PerformanceObserver((list) => {
        for (const entry of list.getEntriesByName("first-contentful-paint")) resolve(entry.startTime);
    }).observe({type: "paint", buffered: true}))
"""


def _import_seconds() -> float:
    command = [sys.executable, "-c", IMPORTING]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


async def _first_paints(chromium: str, url: str) -> list[float]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        paints = []
        for _ in range(9):
            page = await browser.new_page()
            await page.goto(url)
            paints.append(float(await page.evaluate(PAINTED)) / 1000)
            await page.close()
        await browser.close()
    return paints
