"""The journal: what an unfinished run resumes from. It is the other view of the run log's documents."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from autopilot.models import RunStatus, StepStatus, WorkflowRun


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
    is_due: bool = False
    """By the store's time nobody holds the run that was there before, and it is not over: it can be claimed."""
    version: object = field(default=None, compare=False, repr=False)
    """The stored record this was read from. Opaque; a claim that is given it need not read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHold:
    """An attempt's hold on a run: what every write of that attempt is checked against."""

    workflow_id: str
    run_id: str
    attempt: int
    owner: str
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimOutcome:
    """What came of a claim."""

    run: WorkflowRun
    """The run as it is stored now."""
    before: RunStatus
    """The status it had before."""
    hold: RunHold | None
    """The new attempt's hold; None: the run is over, or another attempt holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What is known of a step."""

    key: str
    """The step's full key: its name and key, within its scope. Unique in the run."""
    status: StepStatus
    attempt: int
    """The run's attempt that wrote this."""
    tries: int
    """How often its body was begun, in all attempts that recorded it."""
    started_at: datetime
    """When its body was begun the last time."""
    ended_at: datetime | None = None
    result: str | None = None
    """JSON text; of a success."""
    error: str | None = None
    error_type: str | None = None


class RunJournal(Protocol):
    """The durable state of unfinished runs. Deadlines and errors are those of the run log.

    An attempt holds a run from its start or claim until it ends, its lease ends, or it is saved with a ``due_at``
    that is not in the future. Then, and not before, another attempt can claim it. From that claim on nothing that the
    old attempt writes changes the run or any of its steps.

    ::

        attempt 1   start ──── step a ──── step b ─ ─ ✗ dies            ✗ step c is refused: superseded
                    └───────────── lease of attempt 1 ─────────────┘
        attempt 2                                                   claim ── reads a, b ── step c ──── end
    """

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

    async def claim_run(
        self,
        workflow_id: str,
        run_id: str,
        *,
        owner: str,
        nonce: str,
        lease: timedelta,
        reopen: bool = False,
        version: object = None,
        revision: str | None = None,
    ) -> ClaimOutcome | None:
        """Take a run over as its next attempt, if :func:`~autopilot.core.transitions.may_claim` allows it.

        Of several claims at once exactly one succeeds. In the same atomic commit the run becomes ``running`` with the
        next attempt's number, its lease begins, and the attempt before is fenced off. A claim whose answer was lost
        is recognised by its owner.

        Args:
            owner: a random mark of the new attempt.
            nonce: a random mark for a run that has none.
            lease: how long the new attempt holds the run, by the store's time.
            reopen: also take a run that failed or was cancelled: a person's retry.
            version: what a start or claim found; saves a read while it is still true.
            revision: of the service that the new attempt runs in.

        Returns:
            None: there is no such run, or it is past its ``expires_at``.
        """
        ...

    async def read_steps(self, hold: RunHold) -> list[StepRecord]:
        """Everything recorded of the steps of the held run, in no particular order; one query.

        A predecessor that had the same run id has none of its steps here.
        """
        ...

    async def record_step(
        self, hold: RunHold, step: StepRecord, *, expires_at: datetime, known: StepRecord | None = None
    ) -> StepRecord:
        """Write down a step in one commit, and return what is recorded of it now.

        A success is final: the first one stays, and is returned to whoever records the step later. Any other record
        is replaced. A commit whose answer was lost is looked up and not taken for somebody else's.

        Args:
            expires_at: when the record may be removed; later than the run can be in need of it.
            known: what the caller knows to be recorded. None: nothing is, as far as it knows.

        Raises:
            RunSuperseded: a newer attempt has claimed the run; nothing was changed.
        """
        ...


def get_run_journal() -> RunJournal:
    """The journal beside the default run log (see :func:`autopilot.core.run_log.get_run_log_service`)."""
    from autopilot.storage import process_store

    return process_store()
