"""A past to look at: weeks of runs of every kind, the same each time."""

import random
from datetime import datetime, timedelta
from typing import Any

from autopilot.core.clock import SystemClock
from autopilot.core.runs.identity import run_id_of
from autopilot.core.store import Store
from autopilot.models import RunStatus, TriggerType, WorkflowRun

_ENDINGS = [RunStatus.SUCCESS] * 40 + [RunStatus.FAILED] * 4 + [RunStatus.CANCELLED] + [RunStatus.SKIPPED] * 2


async def write_past(store: Store, *, days: int = 30, per_day: int = 6) -> None:
    """Runs of ``invoice`` and ``hostile`` over the last days, and two of ``retired``, which no code is left of."""
    chance = random.Random(7)
    now = SystemClock().now()
    for number in range(days * per_day):
        started_at = now - timedelta(hours=24 / per_day * (number + 0.4))
        await store.save_run(_run("invoice", number, started_at, chance))
        if number % 5 == 0:
            await store.save_run(_run("hostile", number, started_at, chance))
    for number in range(2):
        await store.save_run(_run("retired", number, now - timedelta(minutes=20 * number), chance))


def a_log(run_id: str) -> list[dict[str, Any]]:
    """What a run logged that failed at the ledger."""
    told = {"run_id": run_id, "workflow": "invoice", "attempt": 1}
    return [
        {
            "event": "customer_found",
            "level": "info",
            "timestamp": "2026-11-26T14:46:14.107+00:00",
            **told,
            "mail": MAIL,
        },
        {"event": "step_retried", "level": "warning", "timestamp": "2026-11-26T14:46:14.302+00:00", **told}
        | {"step": "book in ledger", "tries": 1, "error_type": "ConnectionError", "delay_s": 0},
        {"event": "workflow_run_completed", "level": "error", "timestamp": "2026-11-26T14:46:14.498+00:00", **told}
        | {"status": "failed", "duration_ms": 391, "exception": TRACEBACK},
    ]


MAIL = "ada@example.com"
TRACEBACK = """\
Traceback (most recent call last):
  File "functions/invoice.py", line 48, in execute
    booked = await ctx.step("book in ledger", self._book, total)
  File "functions/invoice.py", line 60, in _book
    raise ConnectionError("the ledger at ledger.internal:5432 refused the connection")
ConnectionError: the ledger at ledger.internal:5432 refused the connection"""


def _run(workflow: str, number: int, started_at: datetime, chance: random.Random) -> WorkflowRun:
    status = chance.choice(_ENDINGS)
    milliseconds = round(chance.lognormvariate(7.6, 0.5)) if status is not RunStatus.SKIPPED else 0
    failed = status is RunStatus.FAILED
    return WorkflowRun(
        id=run_id_of(workflow, str(number)),
        workflow_id=workflow,
        status=status,
        trigger_type=chance.choice([TriggerType.SCHEDULE] * 4 + [TriggerType.HTTP, TriggerType.MANUAL]),
        trigger_data={"customer": "Ada", "amount": 100 + number},
        started_at=started_at,
        completed_at=started_at + timedelta(milliseconds=milliseconds),
        duration_ms=milliseconds,
        result={"entry": f"entry-{number}"} if status is RunStatus.SUCCESS else None,
        error="the ledger at ledger.internal:5432 refused the connection" if failed else None,
        error_type="ConnectionError" if failed else None,
        version="3",
        fingerprint="9f8a61c2d07b44e1",
    )
