"""A bounded memory of the run documents that this process wrote, so that its next write needs no reading."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from autopilot.core.runs.activity import ActivityEntry, activity_of
from autopilot.core.runs.transitions import follows
from autopilot.errors import RunSuperseded
from autopilot.models import RunStatus, WorkflowRun
from autopilot.storage.encoding import Fields
from autopilot.storage.firestore.documents import RunDocument, encode_run

_CAPACITY = 512
_LONG_TEXT = 128


@dataclass(frozen=True, slots=True)
class Counted:
    """The status and the activity that a run is counted as."""

    status: RunStatus
    activity: ActivityEntry | None

    @classmethod
    def of(cls, run: WorkflowRun) -> Self:
        return cls(run.status, activity_of(run))


@dataclass(frozen=True, slots=True)
class Remembered:
    """A run's document as this process last saw it. A hint: every write that builds on it is guarded."""

    attempt: int
    started_at: datetime
    counted: Counted
    counter: str
    update_time: datetime
    marks: Fields
    """The fields of the run, with digests for long texts."""

    @classmethod
    def of(cls, run: WorkflowRun, fields: Fields, counter: str, update_time: datetime) -> Self:
        marks = {name: _mark(value) for name, value in fields.items()}
        return cls(run.attempt, run.started_at, Counted.of(run), counter, update_time, marks)

    @classmethod
    def of_stored(cls, stored: RunDocument) -> Self:
        return cls.of(stored.run, encode_run(stored.run), stored.counter, stored.update_time)

    def is_followed_by(self, run: WorkflowRun) -> bool:
        """Return True if ``run`` may be saved over it."""
        try:
            return follows(run, started_at=self.started_at, attempt=self.attempt, status=self.counted.status)
        except RunSuperseded:
            return False

    def differing(self, fields: Fields) -> Fields:
        """The subset of ``fields`` whose stored value differs."""
        return {name: value for name, value in fields.items() if _mark(value) != self.marks[name]}


def _mark(value: Any) -> Any:
    is_long = isinstance(value, str) and len(value) > _LONG_TEXT
    return hashlib.blake2b(value.encode(), digest_size=16).digest() if is_long else value


class RunMemory:
    """Remembered documents by id: a bounded number, the least recently written forgotten first."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[str, Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, document: str) -> Remembered | None:
        """Return what is remembered of a document, and forget it.

        So nothing is remembered of a write that failed or was cancelled: only :meth:`put` makes it known again.
        """
        with self._lock:
            return self._remembered.pop(document, None)

    def put(self, document: str, remembered: Remembered) -> None:
        with self._lock:
            self._remembered[document] = remembered
            self._remembered.move_to_end(document)
            while len(self._remembered) > _CAPACITY:
                self._remembered.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._remembered.clear()
