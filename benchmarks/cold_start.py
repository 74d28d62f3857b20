"""Cold starts: from the start of the server's process to its first response, under the real functions-framework."""

import json
import tempfile
import time
import urllib.request
from pathlib import Path

from autopilot.core.clock import random_id
from autopilot.development.function_server import FunctionServer
from benchmarks.measure import Line, Measurement, interleave
from benchmarks.workflow import PAYLOAD

MOST_TIMES = 1.3
ROUNDS = 9

BUNDLE = Path(__file__).parent / "bundle"


async def measure_sqlite() -> list[Line]:
    with tempfile.TemporaryDirectory() as folder:
        env = {"AUTOPILOT_STORE": "sqlite", "AUTOPILOT_SQLITE_PATH": f"{folder}/runs.db"}
        run, bare = await interleave(
            ROUNDS,
            warm_up=1,
            cold_start_on_SQLite=first_answer("durable", "workflow.py", env),
            a_bare_function_that_reads_a_row=first_answer("bare", "bare_sqlite.py", env),
        )
    return [Line(measured=run, beside=bare)]


async def measure_firestore(emulator: str) -> list[Line]:
    env = {
        "AUTOPILOT_STORE": "firestore",
        "GOOGLE_CLOUD_PROJECT": f"benchmark-{random_id()[:12]}",
        "FIRESTORE_EMULATOR_HOST": emulator,
        "K_SERVICE": "benchmark",
    }
    run, bare = await interleave(
        ROUNDS,
        warm_up=1,
        cold_start_on_the_emulator=first_answer("durable", "workflow.py", env),
        a_bare_function_that_reads_a_document=first_answer("bare", "bare_firestore.py", env),
    )
    return [Line(measured=run, beside=bare, most_times=MOST_TIMES)]


def first_answer(target: str, source: str, env: dict[str, str]) -> Measurement:
    """Start the function and send it one request, which must succeed."""
    server = FunctionServer(target, source=BUNDLE / source, env=env)

    async def measure() -> float:
        began = time.perf_counter()
        server.start()
        try:
            persisted = _post(server.url)
            seconds = time.perf_counter() - began
        finally:
            server.kill()
        if persisted not in {"true", None}:
            raise RuntimeError(f"the run was not recorded; the server wrote:\n{server.log_text()}")
        return seconds

    return measure


def _post(url: str) -> str | None:
    body = json.dumps(PAYLOAD).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        response.read()
        persisted: str | None = response.headers.get("Autopilot-Persisted")
    return persisted
