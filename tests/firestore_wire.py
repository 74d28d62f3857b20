"""The seam between the Firestore client and gRPC: RPCs are counted there, and answers get lost."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.cloud.firestore_v1 import AsyncClient


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

    def connect(self) -> AsyncClient:
        """A client whose RPCs pass here: what a store is given to make its clients."""
        self.connections += 1
        client = AsyncClient(project=self.project)
        client._firestore_api_internal = _Tapped(client._firestore_api, self)
        return client


class _Tapped:
    def __init__(self, api: Any, wire: Wire) -> None:
        self._api = api
        self._wire = wire

    async def commit(self, *, request: Any, **rest: Any) -> Any:
        self._wire.calls["commit"] += 1
        self._wire.commits.append(request["writes"])
        fault = self._wire.next_fault()
        if fault is not None and not fault.applied:
            raise fault.error
        answer = await self._api.commit(request=request, **rest)
        if fault is not None:
            raise fault.error
        return answer

    async def batch_get_documents(self, **arguments: Any) -> Any:
        self._wire.calls["get"] += 1
        return await self._api.batch_get_documents(**arguments)

    async def run_query(self, *, request: Any, **rest: Any) -> Any:
        self._wire.calls["query"] += 1
        self._wire.queries.append(request["structured_query"])
        return await self._api.run_query(request=request, **rest)
