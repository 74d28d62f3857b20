"""HTTP client of the workflows' functions: the API itself runs nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from autopilot.api.identity_tokens import IdentityUnavailable
from autopilot.errors import FunctionUnavailable

FetchToken = Callable[[str], Awaitable[str]]
"""Gives the identity token for an audience, the address of a function."""

_CONNECT_SECONDS = 10.0
_LONGEST_REQUEST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class FunctionAnswer:
    """The answer of a workflow's function."""

    status: int
    headers: Mapping[str, str]
    body: Any
    """Parsed JSON; None if it is not JSON."""


class WorkflowClient:
    """Calls the functions of the workflows.

    Args:
        urls: the address of each workflow's function, by the workflow's name.
        fetch_token: gives the identity token sent to an ``https`` address; None: no token is sent.
        transport: httpx's own, or a test's.
    """

    def __init__(
        self,
        urls: Mapping[str, str],
        *,
        fetch_token: FetchToken | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._urls = urls
        self._fetch_token = fetch_token
        self._transport = transport
        self._client: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None

    async def post(
        self, workflow: str, path: str, *, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> FunctionAnswer:
        """POST to a workflow's function and return its answer.

        It can take as long as the function may. Cancelling it closes the connection; the function is not stopped by
        that and finishes its run.

        Raises:
            FunctionUnavailable: it has no address, cannot be reached, or refuses this caller.
        """
        if (base := self._urls.get(workflow)) is None:
            raise FunctionUnavailable(workflow, "it has no address here; AUTOPILOT_FUNCTION_URLS does not name it")
        sent = dict(headers or {})
        try:
            if self._fetch_token is not None and base.startswith("https:"):
                sent["Authorization"] = f"Bearer {await self._fetch_token(base)}"
            answer = await self._http().post(f"{base}{path}", content=content, headers=sent)
        except IdentityUnavailable as error:
            raise FunctionUnavailable(workflow, f"there is no identity token for it: {error}") from error
        except httpx.HTTPError as error:
            raise FunctionUnavailable(workflow, f"it did not answer: {type(error).__name__}") from error
        if answer.status_code in {401, 403}:
            raise FunctionUnavailable(workflow, "it refuses this API's identity: grant it roles/run.invoker")
        return FunctionAnswer(answer.status_code, answer.headers, _json(answer))

    def _http(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._client is None or self._client[0] is not loop:  # connections belong to one event loop
            timeout = httpx.Timeout(_LONGEST_REQUEST_SECONDS, connect=_CONNECT_SECONDS)
            self._client = (loop, httpx.AsyncClient(transport=self._transport, timeout=timeout, trust_env=False))
        return self._client[1]


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
