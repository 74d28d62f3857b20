"""The journal: what an unfinished run resumes from. It is the other view of the run log's documents."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from autopilot.models import WorkflowRun


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """A run that is to exist from now on, held by its first attempt."""

    run: WorkflowRun
    """The run as it begins: attempt 1; usually ``running``, or already terminal when it is only recorded."""
    owner: str
    """A random mark of this attempt: a commit whose answer was lost is ours only if the stored owner is."""
    nonce: str
    """A random mark of this run: what is kept beside it is never read by another run of the same id."""
    lease: timedelta
    """How long the attempt holds the run, by the store's time; just over the deadline of the invocation."""
    counter_shards: int = 0
    """Over how many documents the workflow's counters are spread; 0 is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOutcome:
    """What came of a :class:`RunStart`."""

    run: WorkflowRun
    """The run as it is stored: the one that was to start, or the one that was there before."""
    created: bool
    """Whether this start created it."""


class RunJournal(Protocol):
    """The durable state of unfinished runs. Deadlines and errors are those of the run log."""

    async def start_run(self, start: RunStart) -> StartOutcome:
        """Record that a run exists, and count it, in one atomic commit; unless its id is taken.

        Of several starts of one id, at once or one after the other, exactly one creates the run; the others get the
        run as it is stored. A run past its ``expires_at`` counts as absent and is replaced. An attempt that is
        recorded as ``running`` gets ``due_at``: the end of its lease.

        A start whose answer was lost is recognised by its owner: calling again with the same :class:`RunStart` says
        ``created`` and counts nothing twice.

        Raises:
            PayloadTooLarge: nothing was sent.
        """
        ...


def get_run_journal() -> RunJournal:
    """The journal beside the default run log (see :func:`autopilot.core.run_log.get_run_log_service`)."""
    from autopilot.storage import process_store

    return process_store()
