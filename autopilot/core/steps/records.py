"""The records of a run's steps as one attempt reads and writes them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

import structlog

from autopilot.core.clock import Clock
from autopilot.core.deadline import deadline
from autopilot.core.steps.keys import RETRY_KEY, is_step, key_digest
from autopilot.core.stopping import StopSwitch
from autopilot.core.store import Lease, RunJournal, StepRecord
from autopilot.core.tasks import uninterrupted
from autopilot.errors import AttemptStopped, ResultError, RunSuperseded, StoreError, class_name
from autopilot.models import StepStatus, WorkflowRun

log = structlog.get_logger(__name__)


def is_doubtful(record: StepRecord) -> bool:
    """Whether a step may have taken effect although it has no result: only a person begins it again.

    An at-most-once step that was cut off, or a step whose body returned what could not be recorded.
    """
    if record.status in {StepStatus.STARTED, StepStatus.INTERRUPTED}:
        return True
    return record.status is StepStatus.FAILED and class_name(ResultError) in record.error_classes


@dataclass(slots=True)
class Rounds:
    """How often a run was retried, by its manifest's ``retry`` or by a person, and what each retry began again.

    A record of a step that a later round began again does not count any more; all others do. Kept in the run's document
    and, between claim and end, in a record beside the steps, whichever has the greater round.
    """

    number: int = 1
    tries: int = 0
    """Executions that failed and were answered by the manifest's ``retry`` since a person retried the run."""
    begun_again: dict[str, int] = field(default_factory=dict)
    """By the digest of a step's key, the last round that began it again."""

    @classmethod
    def load(cls, run: WorkflowRun, recorded: Iterable[StepRecord]) -> Self:
        """The rounds of a run that an attempt has started or claimed."""
        records = list(recorded)
        last = next((record for record in records if record.key == RETRY_KEY), None)
        rounds = cls() if last is None else cls(last.round, last.tries, json.loads(last.result or "{}"))
        if (run.reopened_attempt or 0) <= (0 if last is None else last.attempt):
            return rounds
        # A person's retry is later than what the attempts before it wrote. The run's document may not know of that: an
        # attempt that was cancelled from outside, or that died, has not written it there.
        number = max(run.round, rounds.number + 1)
        again = set(run.failed_steps)
        again |= {
            inner
            for record in records
            if key_digest(record.key) in run.failed_steps and record.round < number
            for inner in record.failed_within
        }  # all of them, however few the run's document has
        return cls(number, 0, rounds.begun_again | dict.fromkeys(sorted(again), number))

    def counts(self, record: StepRecord) -> bool:
        """Whether a record is still valid."""
        return record.round >= self.begun_again.get(key_digest(record.key), 0)


class StepRecords:
    """The steps of one attempt's run: what is recorded of them, and the recording of more.

    Args:
        recorded: what earlier attempts recorded.
        switch: ends the attempt when a step cannot be recorded.
        expires_at: when the records may be removed.
        commit_by: when a commit is given up, by ``clock.monotonic()``: what is left then is for the run's ending.
        late_seconds: the time of a commit that begins only after that: a process that was paused has a result to keep.
    """

    def __init__(
        self,
        journal: RunJournal,
        clock: Clock,
        lease: Lease,
        run: WorkflowRun,
        recorded: list[StepRecord],
        *,
        switch: StopSwitch,
        expires_at: datetime,
        commit_by: float,
        late_seconds: float,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self.lease = lease
        self.switch = switch
        self._expires_at = expires_at
        self._commit_by = commit_by
        self._late_seconds = late_seconds
        self.rounds = Rounds.load(run, recorded)
        self._known = {record.key: record for record in recorded if is_step(record.key)}
        self._forgotten: set[str] = set()
        self.has_progressed = False
        """Whether this attempt recorded an outcome of a step."""

    def find(self, key: str) -> StepRecord | None:
        """The record of a step, unless a retry has begun the step again since."""
        record = self.last(key)
        return record if record is not None and key not in self._forgotten and self.rounds.counts(record) else None

    def last(self, key: str) -> StepRecord | None:
        """The latest record of a step."""
        return self._known.get(key)

    def has_result(self, key: str) -> bool:
        """Whether a step has succeeded, and need not be executed again."""
        record = self.find(key)
        return record is not None and record.status is StepStatus.SUCCESS

    async def record(self, step: StepRecord) -> StepRecord:
        """Commit a record; what is recorded of the step then.

        Once begun, the commit is carried through even when the caller is cancelled.

        Raises:
            AttemptStopped: it could not be recorded, or the attempt must end: the run goes on in another one.
        """
        self.switch.require_running()
        return await uninterrupted(self._record(step))

    async def _record(self, step: StepRecord) -> StepRecord:
        now = self._clock.monotonic()
        commit_by = self._commit_by if now < self._commit_by else now + self._late_seconds
        timeout = self._clock.timeout(commit_by - now)
        try:
            async with timeout:
                with deadline(self._clock, commit_by):
                    recorded = await self._journal.record_step(self.lease, step, expires_at=self._expires_at)
        except RunSuperseded as newer:
            raise self._stop(str(newer)) from newer
        except TimeoutError as error:
            if not timeout.expired():
                raise
            log.warning("step_not_recorded", step=step.key, error="the invocation's time is used up")
            raise self._stop(f"step {step.key[:200]} could not be recorded in the invocation's time") from error
        except StoreError as error:
            log.warning("step_not_recorded", step=step.key, error=str(error))
            raise self._stop(f"step {step.key[:200]} could not be recorded: {error}") from error
        self._known[step.key] = recorded
        self._forgotten.discard(step.key)
        self.has_progressed |= is_step(step.key) and recorded.status is not StepStatus.STARTED
        return recorded

    def _stop(self, reason: str) -> AttemptStopped:
        return self.switch.stop(AttemptStopped(reason))

    async def begin_round(self, failed: Iterable[str]) -> None:
        """Begin the run's next round, in which these steps are begun again; ``failed`` are digests of their keys.

        Raises:
            AttemptStopped: as :meth:`record`.
        """
        rounds = Rounds(self.rounds.number + 1, self.rounds.tries + 1, dict(self.rounds.begun_again))
        rounds.begun_again |= dict.fromkeys(failed, rounds.number)
        await self.record(
            StepRecord(
                key=RETRY_KEY,
                status=StepStatus.STARTED,
                attempt=self.lease.attempt,
                tries=rounds.tries,
                started_at=self._clock.now(),
                result=json.dumps(rounds.begun_again, separators=(",", ":")),
                round=rounds.number,
            )
        )
        self.rounds = rounds

    def begin_again(self, digests: Iterable[str]) -> None:
        """Pass over the failures of these steps: the body that they are part of is tried again."""
        wanted = set(digests)
        failed = (key for key, record in self._known.items() if record.status is StepStatus.FAILED)
        self._forgotten |= {key for key in failed if key_digest(key) in wanted}

    def pending(self) -> list[str]:
        """The digests of the steps that a retry began again and that were not recorded since."""
        since = {key_digest(record.key): record.round for record in self._known.values()}
        return [digest for digest, round_ in self.rounds.begun_again.items() if since.get(digest, 0) < round_]

    def without_doubtful(self, digests: Iterable[str]) -> list[str]:
        """Those of the steps that can begin again without a person's word: see :func:`is_doubtful`."""
        doubtful = {key_digest(record.key) for record in self._known.values() if is_doubtful(record)}
        return [digest for digest in digests if digest not in doubtful]

    def closure(self, keys: Iterable[str]) -> list[str]:
        """The digests of these steps and of the steps within their bodies that failed them."""
        digests: dict[str, None] = {}
        for key in keys:
            digests[key_digest(key)] = None
            if (record := self.find(key)) is not None:
                digests.update(dict.fromkeys(record.failed_within))
        return list(digests)

    def whole(self, keys: Iterable[str]) -> list[str]:
        """The digests of these steps and of all steps within their bodies that are recorded."""
        if not (wanted := tuple(keys)):
            return []
        scopes = tuple(f"{key}/" for key in wanted)
        return [key_digest(key) for key in (*wanted, *(key for key in self._known if key.startswith(scopes)))]

    def compensations(self, keys: Iterable[str]) -> list[str]:
        """The digests of the steps that began because of failures within the bodies of these steps."""
        records = (self.find(key) for key in keys)
        return [digest for record in records if record is not None for digest in record.compensations]
