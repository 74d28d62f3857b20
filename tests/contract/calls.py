"""The calls by which a run changes: each can be made to a store, and asked of the model."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

from autopilot.core.store import Lease, RunClaim, RunStart, StepRecord, Store
from autopilot.errors import RunStateConflict, RunSuperseded
from autopilot.models import WorkflowRun
from tests.contract.model import Found, Key, Model, Open, Refused, Taken, facts_of
from tests.journal import LONG_HENCE


class Call(Protocol):
    """One call, with all its arguments: it can be made again."""

    @property
    def key(self) -> Key: ...

    async def make(self, store: Store) -> Any:
        """The store's answer, in the model's terms."""
        ...

    def expected(self, model: Model) -> Any:
        """The answer that the model gives."""
        ...


def agrees(answer: Any, expected: Any) -> bool:
    """Whether a store's answer is the model's, as far as that says."""
    if isinstance(answer, Taken) and isinstance(expected, Taken) and expected.before is None:
        expected = replace(expected, before=answer.before)
    return isinstance(expected, Open) or bool(answer == expected)


async def answer_of(call: Call, store: Store) -> Any:
    """A store's answer; an error that a contract names is one."""
    try:
        return await call.make(store)
    except (RunSuperseded, RunStateConflict) as error:
        return Refused(type(error).__name__)


@dataclass
class Start:
    start: RunStart
    found: Any = None
    """What the store found, for a claim."""

    @property
    def key(self) -> Key:
        return self.start.run.workflow_id, self.start.run.id

    async def make(self, store: Store) -> Found:
        outcome = await store.start_run(self.start)
        self.found = outcome
        return Found(created=outcome.created, is_due=outcome.is_due, run=facts_of(outcome.run))

    def expected(self, model: Model) -> Found:
        return model.start(self.start)


@dataclass
class Claim:
    key: Key
    claim: RunClaim
    version: object = None
    taken: WorkflowRun | None = None
    """The run as its new attempt got it."""

    async def make(self, store: Store) -> Taken | None:
        outcome = await store.claim_run(*self.key, self.claim, version=self.version)
        if outcome is None:
            return None
        self.taken = outcome.run if outcome.lease is not None else None
        return Taken(facts_of(outcome.run), str(outcome.before), outcome.lease)

    def expected(self, model: Model) -> Taken | None:
        return model.claim(self.key, self.claim)


@dataclass
class Record:
    lease: Lease
    step: StepRecord

    @property
    def key(self) -> Key:
        return self.lease.workflow_id, self.lease.run_id

    async def make(self, store: Store) -> StepRecord:
        return await store.record_step(self.lease, self.step, expires_at=LONG_HENCE)

    def expected(self, model: Model) -> StepRecord | Refused | Open:
        return model.record(self.lease, self.step)


@dataclass
class Save:
    run: WorkflowRun

    @property
    def key(self) -> Key:
        return self.run.workflow_id, self.run.id

    async def make(self, store: Store) -> None:
        await store.save_run(self.run)

    def expected(self, model: Model) -> Refused | Open | None:
        return model.save(self.run)


@dataclass
class Cancel:
    key: Key
    owner: str
    retention: timedelta | None

    async def make(self, store: Store) -> Any:
        run = await store.request_cancel(*self.key, owner=self.owner, retention=self.retention)
        return None if run is None else facts_of(run)

    def expected(self, model: Model) -> Any:
        return model.cancel(self.key, self.owner, self.retention)


@dataclass
class Delete:
    key: Key

    async def make(self, store: Store) -> Any:
        run = await store.delete_run(*self.key)
        return None if run is None else facts_of(run)

    def expected(self, model: Model) -> Any:
        return model.delete(self.key)
