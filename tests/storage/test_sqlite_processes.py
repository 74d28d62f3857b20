"""SQLite and processes: many at once, killed, forked, out of disk, without rights."""

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pytest

from autopilot.storage.sqlite.store import SQLiteStore

ROOT = Path(__file__).parents[2]

PRELUDE = """
    import asyncio, os, sys
    from datetime import UTC, datetime, timedelta
    from autopilot.core.store import RunStart
    from autopilot.errors import StoreUnavailable
    from autopilot.models import RunStatus, TriggerType, WorkflowRun
    from autopilot.storage.sqlite.store import SQLiteStore

    def run(id, status=RunStatus.SUCCESS, **fields):
        return WorkflowRun(id=id, workflow_id="digest", status=status, trigger_type=TriggerType.HTTP,
                           started_at=datetime.now(UTC), **fields)

    store = SQLiteStore(sys.argv[1])
"""


class StartProcess(Protocol):
    def __call__(self, code: str, *arguments: object) -> subprocess.Popen[str]: ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    """What this process sees of the database of the others."""
    with closing(SQLiteStore(path)) as opened:
        yield opened


@pytest.fixture
def start() -> Iterator[StartProcess]:
    """Starts processes that have a store on their first argument and a way to make runs."""
    processes: list[subprocess.Popen[str]] = []

    def start_(code: str, *arguments: object) -> subprocess.Popen[str]:
        text = textwrap.dedent(PRELUDE) + textwrap.dedent(code)
        process = subprocess.Popen(
            [sys.executable, "-c", text, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start_
    for process in processes:
        with process:
            process.kill()


def finish(process: subprocess.Popen[str]) -> str:
    """Let a process that waits for its input go on; what it printed."""
    out, err = process.communicate("go\n", timeout=50)
    assert process.returncode == 0, err
    return out


@pytest.mark.slow
async def test_processes_that_write_at_once_are_counted_exactly(
    path: Path, start: StartProcess, store: SQLiteStore
) -> None:
    writers = [
        start(
            """
            async def write():
                for number in range(25):
                    begun = run(f"{sys.argv[2]}-{number}", RunStatus.RUNNING)
                    start = RunStart(run=begun, owner="me", incarnation="n", lease_duration=timedelta(minutes=1))
                    started = (await store.start_run(start)).run
                    await store.save_run(started.model_copy(update={"status": RunStatus.SUCCESS}))
                    await store.save_run(run(f"shared-{number}"))

            sys.stdin.readline()
            asyncio.run(write())
            """,
            path,
            name,
        )
        for name in ("a", "b", "c", "d")
    ]
    for writer in writers:
        finish(writer)

    stats = await store.get_stats("digest")

    assert stats == {"total": 4 * 25 + 25, "successful": 4 * 25 + 25, "by_status": {"success": 4 * 25 + 25}}


@pytest.mark.parametrize("attempt", (0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))))
async def test_processes_that_open_a_new_file_at_once_all_succeed(
    path: Path, start: StartProcess, store: SQLiteStore, attempt: int
) -> None:
    gate = path.with_name("gate")
    openers = [
        start(
            """
            from pathlib import Path

            print("ready", flush=True)
            while not Path(sys.argv[2]).exists():
                pass
            asyncio.run(store.save_run(run(f"of-{os.getpid()}")))
            """,
            path,
            gate,
        )
        for _ in range(4)
    ]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    gate.touch()
    for opener in openers:
        finish(opener)

    assert (await store.get_stats("digest"))["total"] == 4


async def test_what_was_acknowledged_survives_a_killed_process(
    path: Path, start: StartProcess, store: SQLiteStore
) -> None:
    process = start(
        """
        async def save_and_die():
            await store.save_run(run("saved"))
            os.kill(os.getpid(), 9)

        asyncio.run(save_and_die())
        """,
        path,
    )
    process.communicate(timeout=50)
    assert process.returncode == -9

    assert await store.get_run("digest", "saved") is not None


def test_a_database_that_may_only_be_read_is_unavailable(start: StartProcess) -> None:
    process = start(
        """
        import shutil, tempfile

        folder = tempfile.mkdtemp()
        path = os.path.join(folder, "runs.db")
        store = SQLiteStore(path)
        asyncio.run(store.save_run(run("kept")))
        store.close()
        os.chmod(folder, 0o755)
        os.chmod(path, 0o444)
        if os.geteuid() == 0:  # whom no mode stops
            os.seteuid(65534)
        try:
            asyncio.run(store.save_run(run("refused")))
        except StoreUnavailable as error:
            print(error)
        finally:
            store.close()
            os.seteuid(os.getuid())
            shutil.rmtree(folder)
        """,
        "unused",
    )

    assert "it is read-only" in finish(process)


def test_a_full_disk_is_said_and_changes_nothing(path: Path, start: StartProcess) -> None:
    # A limit on the size of files stands in for the disk's end: writing fails in the same place.
    process = start(
        """
        import resource

        async def fill():
            saved = 0
            await store.save_run(run("first"))
            unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, unlimited[1]))
            try:
                while saved < 100:
                    await store.save_run(run(f"run-{saved}", result="x" * 100_000))
                    saved += 1
            except StoreUnavailable as error:
                print(type(error).__name__)
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            await store.save_run(run("last"))
            print((await store.get_stats("digest"))["total"] == saved + 2, 0 < saved < 100)

        asyncio.run(fill())
        store.close()
        """,
        path,
    )

    assert finish(process).splitlines() == ["StoreUnavailable", "True True"]


async def test_a_forked_process_has_a_connection_of_its_own(
    path: Path, start: StartProcess, store: SQLiteStore
) -> None:
    process = start(
        """
        import warnings

        warnings.simplefilter("ignore", DeprecationWarning)  # forking with a thread is the very thing that is tried
        asyncio.run(store.save_run(run("before")))
        child = os.fork()
        asyncio.run(store.save_run(run("in-the-child" if child == 0 else "in-the-parent")))
        if child == 0:
            sys.exit(0)  # in good order: with all that the interpreter and its exit handlers do
        assert os.waitpid(child, 0)[1] == 0
        assert os.path.exists(sys.argv[1] + "-wal"), "the child closed the parent's database"
        asyncio.run(store.save_run(run("after")))
        store.close()
        """,
        path,
    )
    finish(process)

    runs, _ = await store.list_runs("digest")
    assert {run.id for run in runs} == {"before", "in-the-child", "in-the-parent", "after"}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
