"""Requests to the functions of this process, as the platform would send them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import httpx
from starlette.types import ASGIApp

Deliver = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]
"""POST a body with headers to a path, and return the status of the response."""


class Deliveries:
    """Delivers to an application in this process, with no network in between: a :data:`Deliver`.

    Cancelling a delivery does not cancel the request, just as a deployed function carries on when its caller goes away.
    :meth:`settle` waits for all of them.
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
        """Return when every request has its response; afterwards nothing can be delivered."""
        await asyncio.gather(*self._under_way)
        await self._client.aclose()

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        return (await self._client.post(path, content=body, headers=dict(headers))).status_code
