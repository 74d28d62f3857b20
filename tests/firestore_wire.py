"""The seam between the Firestore client and gRPC: RPCs are counted there, and answers get lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from google.api_core import exceptions as google
from google.cloud.firestore_v1 import AsyncClient

from autopilot.core.clock import Clock, SystemClock
from autopilot.models import WorkflowRun
from autopilot.storage.firestore.store import FirestoreStore

PASSING_ERRORS = (
    google.ServiceUnavailable,
    google.DeadlineExceeded,
    google.InternalServerError,
    google.Unknown,
    google.Aborted,
    google.ResourceExhausted,
    google.Cancelled,
)


_PATIENCE_SECONDS = 60.0


@dataclass
class Fault:
    """One commit that fails: after it was applied, when its answer is lost, or before."""

    error: BaseException
    applied: bool


@dataclass
class Wire:
    """What passes between one store and its database."""

    project: str
    connections: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    commits: list[Any] = field(default_factory=list)
    queries: list[Any] = field(default_factory=list)
    next_fault: Callable[[], Fault | None] = lambda: None
    loses: Callable[[], bool] = lambda: False
    """Whether the answer of the next RPC, applied as it was, is lost: the caller waits for it in vain."""
    clock: Clock | None = None
    """By which RPCs take time: none, unless their answer is lost. Default: the machine's, and gRPC's own deadlines."""
    meanwhile: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    """What happens elsewhere, each once: the last of these after a store has read and before its next commit is sent."""
    server_time: Callable[[], datetime] | None = None
    """The server's time at a commit or an answer, in the test's hands; None: it is the emulator's."""

    def connect(self) -> AsyncClient:
        """A client whose RPCs pass here: what a store is given to make its clients."""
        self.connections += 1
        client = AsyncClient(project=self.project)
        client._firestore_api_internal = _Tapped(client._firestore_api, self)
        return client

    async def steps_of(self, run: WorkflowRun) -> dict[str, Any]:
        """The snapshots of the steps and fences of a run, by id."""
        steps = AsyncClient(project=self.project).collection("runs", f"{run.workflow_id}~{run.id}", "steps")
        return {snapshot.id: snapshot async for snapshot in steps.stream()}


class _Tapped:
    def __init__(self, api: Any, wire: Wire) -> None:
        self._api = api
        self._wire = wire

    async def commit(self, *, request: Any, **rest: Any) -> Any:
        if self._wire.meanwhile:
            await self._wire.meanwhile.pop()()
        self._wire.calls["commit"] += 1
        self._wire.commits.append(request["writes"])
        if self._wire.server_time is not None:
            for write in request["writes"]:
                _stamp(write, self._wire.server_time())
        fault = self._wire.next_fault()
        if fault is not None and not fault.applied:
            raise fault.error
        answer = await self._answered(self._api.commit, request=request, **rest)
        if fault is not None:
            raise fault.error
        return answer

    async def batch_get_documents(self, **arguments: Any) -> Any:
        self._wire.calls["get"] += 1
        return self._timed(await self._answered(self._api.batch_get_documents, **arguments))

    async def run_query(self, *, request: Any, **rest: Any) -> Any:
        self._wire.calls["query"] += 1
        self._wire.queries.append(request["structured_query"])
        return self._timed(await self._answered(self._api.run_query, request=request, **rest))

    async def _answered(self, rpc: Callable[..., Awaitable[Any]], *, timeout: float, **arguments: Any) -> Any:
        clock, is_lost = self._wire.clock, self._wire.loses()
        answer = await rpc(timeout=timeout if clock is None else _PATIENCE_SECONDS, **arguments)
        if is_lost:
            await (clock or SystemClock()).sleep(timeout)
            raise failure(google.DeadlineExceeded, "the answer was lost")
        return answer

    async def _timed(self, answers: AsyncIterable[Any]) -> AsyncIterator[Any]:
        async for answer in answers:
            if self._wire.server_time is not None:
                answer.read_time = self._wire.server_time()
            yield answer


def _stamp(write: Any, time: datetime) -> None:
    """Put ``time`` where a write asks for the server's: the emulator then has nothing to fill in."""
    asked = [each for each in write.update_transforms if each.set_to_server_value]
    write.update_transforms = [each for each in write.update_transforms if not each.set_to_server_value]
    for each in asked:
        write.update.fields[each.field_path] = {"timestamp_value": time}
        if "update_mask" in write:
            write.update_mask.field_paths.append(each.field_path)


class ImpatientClock(SystemClock):
    """Pauses between attempts cost no time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def store_on(
    wire: Wire,
    deadline: timedelta = timedelta(seconds=20),
    clock: Clock = ImpatientClock(),  # noqa: B008 - stateless
) -> FirestoreStore:
    """A store on the wire, as another process would have it."""
    return FirestoreStore(connect=wire.connect, clock=clock, deadline=deadline)


def failure(error: type[google.GoogleAPICallError], message: str = "injected") -> google.GoogleAPICallError:
    return error(message)


def faults(*given: Fault | None) -> Callable[[], Fault | None]:
    """The next commits fail like this, or not; all that follow succeed."""
    left = list(given)
    return lambda: left.pop(0) if left else None


def lost(error: type[google.GoogleAPICallError] = google.ServiceUnavailable, *, applied: bool = True) -> Fault:
    return Fault(failure(error), applied)


def sometimes(chance: Random) -> Callable[[], Fault | None]:
    """15 % of commits fail: half of these were applied."""
    return lambda: lost(applied=chance.random() < 0.5) if chance.random() < 0.15 else None
