"""Requests to the functions of this process, as the platform sends them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import httpx
from starlette.types import ASGIApp

Deliver = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]
"""POST a body with headers to a path; gives the status of the answer."""


class Deliveries:
    """Deliveries to an application of this process, without a network between: a :data:`Deliver`.

    Whoever waits for one can be cancelled; the request goes on to its end, as it does when a caller of a deployed
    function goes away. Only :meth:`settle` waits for all.
    """

    def __init__(self, app: ASGIApp, base_url: str) -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        # A run takes as long as it takes.
        self._client = httpx.AsyncClient(transport=transport, base_url=base_url, timeout=None)  # noqa: S113
        self._under_way: set[asyncio.Task[int]] = set()

    async def __call__(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        task = asyncio.create_task(self._post(path, body, headers))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def settle(self) -> None:
        """Return when every request has its answer."""
        await asyncio.gather(*self._under_way)
        await self._client.aclose()

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        return (await self._client.post(path, content=body, headers=dict(headers))).status_code
