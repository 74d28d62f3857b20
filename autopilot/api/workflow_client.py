"""Calls of the workflows' own functions: the API runs nothing itself."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import structlog

from autopilot.api.kept_token import KeptToken
from autopilot.core.clock import Clock, SystemClock
from autopilot.errors import FunctionUnavailable

FetchToken = Callable[[str], Awaitable[str]]
"""Gives the identity token for an audience, the address of a function."""

_CONNECT_SECONDS = 10.0
_LONGEST_REQUEST_SECONDS = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FunctionAnswer:
    """What a workflow's function said."""

    status: int
    headers: Mapping[str, str]
    body: Any
    """The JSON; None: it was none."""


class IdentityUnavailable(Exception):
    """Google's libraries gave no identity token."""


class WorkflowClient:
    """The functions of the workflows.

    Args:
        urls: the address of each workflow's function, by the workflow's name.
        fetch_token: what a function at an ``https`` address is shown; None: no token is sent.
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
        self._open_calls: set[asyncio.Task[FunctionAnswer]] = set()

    async def post(
        self, workflow: str, path: str, *, content: bytes = b"", headers: Mapping[str, str] | None = None, wait: float
    ) -> FunctionAnswer | None:
        """POST to a workflow's function and wait ``wait`` seconds for the answer; None: there was none until then.

        A call that is not answered yet is left open: the function has its CPU as long as somebody waits for it. What
        comes of it is in the records, so nothing here depends on its end.

        Raises:
            FunctionUnavailable: it has no address, cannot be reached, or answered what is no answer of a function.
        """
        if (base := self._urls.get(workflow)) is None:
            raise FunctionUnavailable(workflow, "it has no address here; AUTOPILOT_FUNCTION_URLS does not name it")
        call = asyncio.create_task(self._post(workflow, base, path, content, dict(headers or {})))
        self._open_calls.add(call)
        await asyncio.wait({call}, timeout=wait)
        if call.done():
            self._open_calls.discard(call)
            return call.result()
        call.add_done_callback(self._forget)
        return None

    async def _post(
        self, workflow: str, base: str, path: str, content: bytes, headers: dict[str, str]
    ) -> FunctionAnswer:
        try:
            if self._fetch_token is not None and base.startswith("https:"):
                headers["Authorization"] = f"Bearer {await self._fetch_token(base)}"
            answer = await self._http().post(f"{base}{path}", content=content, headers=headers)
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

    def _forget(self, call: asyncio.Task[FunctionAnswer]) -> None:
        self._open_calls.discard(call)
        if not call.cancelled() and (error := call.exception()) is not None:
            log.warning("function_call_failed", error=str(error))


class IdentityTokens:
    """This service's identity tokens, from Google's libraries; each is used again while it is good."""

    def __init__(self, fetch: Callable[[str], str] | None = None, clock: Clock | None = None) -> None:
        self._fetch = fetch or _fetch_from_google
        time = clock or SystemClock()
        self._tokens: defaultdict[str, KeptToken] = defaultdict(lambda: KeptToken(time))

    async def __call__(self, audience: str) -> str:
        """The token for ``audience``."""
        kept = self._tokens[audience]
        return kept.get() or kept.keep(await asyncio.to_thread(self._fetch, audience))


def _fetch_from_google(audience: str) -> str:
    # Only in the cloud: google-auth comes with the Firestore client.
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request
    from google.oauth2.id_token import fetch_id_token

    try:
        return str(fetch_id_token(Request(), audience))  # type: ignore[no-untyped-call]
    except GoogleAuthError as error:
        raise IdentityUnavailable(str(error)) from error


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
