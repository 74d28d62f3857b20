"""Lists, histories, charts and streams of the API and the dashboard: they never see a payload or a result."""

from typing import NoReturn

import httpx
import pytest

from autopilot.core.store import Store
from autopilot.storage import encoding
from autopilot.storage.sqlite import rows
from autopilot.testing import store as memory

PAYLOAD = "what came in, and what goes out"


@pytest.fixture
async def undecodable(api: httpx.AsyncClient, process_store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The id of a run that is recorded, and that from now on no store can decode as a whole; the position before it."""

    def fail(*_: object) -> NoReturn:
        raise AssertionError("a whole run was decoded")

    position = await process_store.get_last_position()
    run: str = (await api.post("/workflows/echo/trigger", json={"note": PAYLOAD})).json()["run_id"]
    assert PAYLOAD in (await api.get(f"/workflows/echo/runs/{run}")).text
    for module in (encoding, rows, memory):
        monkeypatch.setattr(module, "decode_run", fail)
    return run, position


@pytest.mark.parametrize(
    "path",
    (
        "/api/v1/runs",
        "/api/v1/runs?status=success",
        "/api/v1/workflows",
        "/api/v1/workflows/echo",
        "/api/v1/workflows/echo/runs",
        "/api/v1/workflows/echo/stats",
        "/",
        "/runs",
        "/workflows/echo",
    ),
)
async def test_no_answer_about_several_runs_decodes_one_of_them(
    api: httpx.AsyncClient, undecodable: tuple[str, str], path: str
) -> None:
    answer = await api.get(f"http://localhost{path}")

    assert answer.status_code == 200
    assert undecodable[0] in answer.text or "stats" in path
    assert PAYLOAD not in answer.text


@pytest.mark.slow
async def test_no_stream_decodes_a_run(api: httpx.AsyncClient, undecodable: tuple[str, str]) -> None:
    run, position = undecodable

    stream = await api.get("/events", headers={"Last-Event-ID": position})

    assert run in stream.text
    assert PAYLOAD not in stream.text
