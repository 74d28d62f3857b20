"""What this process remembers of the run documents it wrote, so that the next write needs no reading."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from autopilot.models import WorkflowRun
from autopilot.storage.firestore_documents import StoredRun, digest_of, encode_run

_CAPACITY = 512


@dataclass(frozen=True, slots=True)
class Remembered:
    """A run document as this process last saw it. A hint: every write that builds on it is guarded."""

    outline: WorkflowRun
    """The run without what can be large."""
    digest: bytes
    counter: str
    update_time: datetime

    @classmethod
    def of(cls, run: WorkflowRun, digest: bytes, counter: str, update_time: datetime) -> Self:
        # The digest stands for what is left out: an outline equals no run.
        outline = run.model_copy(update={"trigger_data": {}, "result": None, "error": digest.hex()})
        return cls(outline, digest, counter, update_time)

    @classmethod
    def of_stored(cls, stored: StoredRun) -> Self:
        return cls.of(stored.run, digest_of(encode_run(stored.run)), stored.counter, stored.update_time)


class RunMemory:
    """Remembered documents by id: a bounded number, the least recently written forgotten first."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[str, Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, document: str) -> Remembered | None:
        """What is remembered of a document, and forgotten with this.

        Whatever happens to the write that builds on it, a cancellation included, only :meth:`put` makes it known again.
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
