from datetime import UTC, datetime

import pytest

from autopilot.models import RunStatus, TriggerType, WorkflowRun
from autopilot.storage.firestore.documents import encode_run
from autopilot.storage.firestore.memory import Remembered, RunMemory

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def remembered() -> Remembered:
    run = WorkflowRun(
        id="run-1",
        workflow_id="demo",
        status=RunStatus.RUNNING,
        trigger_type=TriggerType.HTTP,
        trigger_data={"text": "x" * 100_000},
        started_at=NOW,
    )
    return Remembered.of(run, encode_run(run), counter="0", update_time=NOW)


@pytest.mark.slow
def test_a_process_forgets_the_documents_it_wrote_longest_ago() -> None:
    memory = RunMemory()
    for n in range(2000):
        memory.put(f"document-{n}", remembered())

    known = [n for n in range(2000) if memory.take(f"document-{n}") is not None]

    assert 0 < len(known) < 1000
    assert known == list(range(2000 - len(known), 2000))


def test_what_is_remembered_is_small_whatever_the_run_holds() -> None:
    assert len(repr(remembered())) < 2000


def test_taking_a_memory_leaves_none_to_build_on_twice() -> None:
    memory = RunMemory()
    memory.put("document", remembered())

    assert memory.take("document") is not None
    assert memory.take("document") is None
