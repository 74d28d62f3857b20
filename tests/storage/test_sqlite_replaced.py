"""The SQLite file removed or replaced while it is open."""

# ruff: noqa: ASYNC240 - a test may wait for its own small files

import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from autopilot import BaseWorkflow, RunContext, WorkflowManifest
from autopilot.core.run_log import use_store
from autopilot.errors import StoreUnavailable
from tests.functions_in_process import Serve
from tests.log_events import Events, named
from tests.runs import MakeRun
from tests.storage.conftest import OpenStore

Lose = Callable[[Path, OpenStore], Awaitable[None]]


async def make_elsewhere(path: Path, elsewhere: OpenStore) -> None:
    """Another database of ours, whose connection is closed."""
    store = elsewhere(path)
    await store.get_paused_runs()
    store.close()


async def remove_file(path: Path, _: OpenStore) -> None:
    path.unlink()


async def remove_all_files(path: Path, _: OpenStore) -> None:
    for file in path.parent.iterdir():
        file.unlink()


async def remove_folder(path: Path, _: OpenStore) -> None:
    shutil.rmtree(path.parent)


async def move_folder(path: Path, _: OpenStore) -> None:
    path.parent.rename(path.parent.with_name("moved"))


async def put_a_file_in_place_of_the_folder(path: Path, _: OpenStore) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.write_text("a file")


async def move_another_there(path: Path, elsewhere: OpenStore) -> None:
    other = path.with_name("other.db")
    await make_elsewhere(other, elsewhere)
    other.rename(path)


async def link_it_elsewhere(path: Path, elsewhere: OpenStore) -> None:
    other = path.with_name("other.db")
    await make_elsewhere(other, elsewhere)
    path.unlink()
    path.symlink_to(other)


async def remove_the_log(path: Path, _: OpenStore) -> None:
    path.with_name(f"{path.name}-wal").unlink()


async def remove_the_shared_memory(path: Path, _: OpenStore) -> None:
    path.with_name(f"{path.name}-shm").unlink()


LOSSES: tuple[Lose, ...] = (
    remove_file,
    remove_all_files,
    remove_folder,
    move_folder,
    move_another_there,
    link_it_elsewhere,
)
BESIDE: tuple[Lose, ...] = (remove_the_log, remove_the_shared_memory)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "runs.db"


@pytest.mark.parametrize(
    ("lose", "call"),
    [
        pytest.param(lose, call, id=f"{lose.__name__}-{call}")
        for lose in (*LOSSES, *BESIDE)
        for call in ("read", "write")
    ],
)
async def test_the_next_call_after_the_file_is_gone_fails_and_the_one_after_that_has_the_file_that_is_there(
    path: Path, open_store: OpenStore, make_run: MakeRun, events: Events, *, lose: Lose, call: str
) -> None:
    store, lost, kept = open_store(path), make_run(), make_run()
    await store.save_run(lost)
    await lose(path, open_store)

    with pytest.raises(StoreUnavailable, match="was removed or replaced while it was open; nothing was changed"):
        await (store.save_run(kept) if call == "write" else store.get_run("digest", lost.id))

    assert [event["path"] for event in named(events, "store_replaced")] == [str(path)]
    assert await store.get_run("digest", kept.id) is None
    assert await store.get_run("digest", lost.id) == (lost if lose in BESIDE else None)
    await store.save_run(kept)
    store.close()
    assert await open_store(path).get_run("digest", kept.id) == kept, "it is in the file that is there"
    assert len(named(events, "store_replaced")) == 1


async def test_while_there_can_be_no_file_every_call_fails(
    path: Path, open_store: OpenStore, make_run: MakeRun
) -> None:
    store, run = open_store(path), make_run()
    await store.save_run(run)
    await put_a_file_in_place_of_the_folder(path, open_store)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await store.save_run(make_run())

    path.parent.unlink()
    path.parent.with_name("moved").rename(path.parent)
    assert await store.get_run("digest", run.id) == run


async def test_the_database_that_took_its_place_keeps_its_own_log(
    path: Path, open_store: OpenStore, make_run: MakeRun
) -> None:
    store, other, run = open_store(path), open_store(path), make_run()
    await store.save_run(make_run())
    await remove_all_files(path, open_store)
    await other.save_run(run)  # not checkpointed: it is in the log alone

    with pytest.raises(StoreUnavailable):
        await store.get_paused_runs()

    assert await store.get_run("digest", run.id) == run


async def test_a_database_that_was_moved_away_takes_its_log_along_and_leaves_it_to_no_other(
    path: Path, open_store: OpenStore, make_run: MakeRun
) -> None:
    store, old, new = open_store(path), make_run(), make_run()
    await store.save_run(old)  # not checkpointed
    away = path.with_name("away.db")
    path.rename(away)
    await move_another_there(path, open_store)

    with pytest.raises(StoreUnavailable):
        await store.save_run(new)
    await store.save_run(new)

    assert await store.list_runs("digest") == ([new], None)
    assert await open_store(away).list_runs("digest") == ([old], None)


async def test_a_file_that_was_moved_away_and_back_is_the_same_one(
    path: Path, open_store: OpenStore, make_run: MakeRun
) -> None:
    store, run = open_store(path), make_run()
    await store.save_run(run)
    path.rename(path.with_name("away.db"))
    path.with_name("away.db").rename(path)

    assert await store.get_run("digest", run.id) == run


async def test_a_file_behind_a_link_is_one_file(
    tmp_path: Path, open_store: OpenStore, make_run: MakeRun, events: Events
) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "runs.db"
    link.symlink_to(tmp_path / "real" / "runs.db")
    store, run = open_store(link), make_run()
    await store.save_run(run)
    (tmp_path / "real" / "runs.db-wal").unlink()

    with pytest.raises(StoreUnavailable):
        await store.get_run("digest", run.id)

    assert await store.get_run("digest", run.id) == run
    assert len(named(events, "store_replaced")) == 1


async def test_a_relative_path_means_the_folder_in_which_it_was_opened(
    path: Path, tmp_path: Path, open_store: OpenStore, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store, run = open_store(Path("folder/runs.db")), make_run()
    await store.save_run(run)
    monkeypatch.chdir("/")

    assert await store.get_run("digest", run.id) == run


async def test_a_database_in_memory_has_no_file_to_lose(open_store: OpenStore, make_run: MakeRun) -> None:
    store, run = open_store(Path(":memory:")), make_run()
    await store.save_run(run)

    assert await store.get_run("digest", run.id) == run


class Meanwhile(sqlite3.Connection):
    """A connection at whose commits something happens to the file."""

    before: Callable[[], object] = staticmethod(lambda: None)
    after: Callable[[], object] = staticmethod(lambda: None)

    def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        if statement != "COMMIT":
            return super().execute(statement, *rest)
        type(self).before()
        try:
            return super().execute(statement, *rest)
        finally:
            type(self).after()


@pytest.mark.parametrize("when", ("before", "after"))
async def test_a_commit_into_a_file_that_goes_away_meanwhile_is_not_acknowledged(
    path: Path, open_store: OpenStore, make_run: MakeRun, events: Events, *, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: connect(*given, factory=Meanwhile, **options))
    store, run = open_store(path), make_run()
    await store.get_paused_runs()
    monkeypatch.setattr(Meanwhile, when, staticmethod(lambda: path.unlink(missing_ok=True)))

    with pytest.raises(StoreUnavailable, match="during the commit; whether it was done is unknown"):
        await store.save_run(run)
    monkeypatch.undo()

    assert len(named(events, "store_replaced")) == 1
    await store.save_run(run)
    assert await open_store(path).get_run("digest", run.id) == run


async def test_a_commit_that_the_disk_fails_is_not_said_to_have_changed_nothing(
    path: Path, open_store: OpenStore, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: connect(*given, factory=Meanwhile, **options))
    store = open_store(path)
    await store.get_paused_runs()
    monkeypatch.setattr(Meanwhile, "before", staticmethod(fail))

    with pytest.raises(StoreUnavailable, match="disk I/O error; whether it was done is unknown"):
        await store.save_run(make_run())


class Careless(BaseWorkflow):
    """Its first run removes the file that it is recorded in."""

    manifest = WorkflowManifest(name="careless")
    removes: ClassVar[list[Path]] = []

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> str:
        while self.removes:
            self.removes.pop().unlink()
        return "done"


@pytest.mark.parametrize("when", ("before", "within"))
async def test_a_run_whose_file_goes_away_is_answered_with_503_and_succeeds_when_it_is_delivered_again(
    path: Path, open_store: OpenStore, serve: Serve, when: str
) -> None:
    function = serve("tests.storage.test_sqlite_replaced:Careless")
    with use_store(open_store(path)):
        await function.post("/", json={})
        if when == "before":
            path.unlink()
        else:
            Careless.removes.append(path)
        lost = await function.post("/", json={}, headers={"Idempotency-Key": "order-1"})
        kept = await function.post("/", json={}, headers={"Idempotency-Key": "order-1"})

    assert lost.status_code == 503
    assert lost.headers.get("Autopilot-Persisted", "false") == "false"
    assert (kept.status_code, kept.headers["Autopilot-Persisted"]) == (200, "true")
    run = await open_store(path).get_run("careless", kept.headers["Autopilot-Run-Id"])
    assert run is not None
    assert run.result == "done"
