"""The ``/events`` endpoint: changes of runs as server-sent events (html.spec.whatwg.org, section 9.2)."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query
from pydantic_core import to_json
from starlette.responses import Response, StreamingResponse

from autopilot.api.context import ApiContext
from autopilot.api.errors import documented
from autopilot.api.schemas import summary_of
from autopilot.core.store import RunChange
from autopilot.errors import StoreError

POLL_SECONDS = 1.0
"""The interval at which the store is asked for changes."""

HEARTBEAT_SECONDS = 15.0
"""The longest silence of a stream: proxies close idle connections."""

MAX_STREAM_SECONDS = 300.0
MARGIN_SECONDS = 10.0
"""How long before the function's timeout a stream ends."""

RECONNECT_MS = 1000


class Events:
    """Streams of changes.

    A stream ends when its client goes away, when the process shuts down, and before the function's timeout. It has no
    task of its own: Starlette cancels the generator. A browser reconnects by itself, from the last position it got.
    """

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        allowed = context.settings.request_timeout_seconds or MAX_STREAM_SECONDS
        self._seconds = max(POLL_SECONDS, min(MAX_STREAM_SECONDS, allowed - MARGIN_SECONDS))

    def add_to(self, api: FastAPI) -> None:
        """Add the route and its documented answers."""
        stream = {
            "description": "Events `run`: `id` is the position to resume from, `data` is a RunSummary.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
        answers: dict[int | str, dict[str, Any]] = {200: stream, **documented()}
        api.add_api_route(
            "/events",
            self.stream,
            methods=["GET"],
            responses=answers,
            response_model=None,
            response_class=StreamingResponse,
        )

    async def stream(
        self,
        workflow: Annotated[str | None, Query(description="Only this workflow's runs.")] = None,
        run: Annotated[str | None, Query(description="Only the run of this id.")] = None,
        last_event_id: Annotated[str | None, Header(description="The position to resume from.")] = None,
    ) -> Response:
        """Changes of runs, from now on or from where the last stream ended."""
        self._context.shutdown.install()  # not before: the server sets a handler of its own as it starts
        archive = self._context.archive()
        if last_event_id:
            await archive.read_changes(last_event_id, limit=1)  # an invalid one is refused before the stream begins
        position = last_event_id or await archive.get_last_position()
        return StreamingResponse(
            self._events(position, workflow, run),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    async def _events(self, position: str, workflow: str | None, run: str | None) -> AsyncIterator[bytes]:
        clock = self._context.clock
        ends_at = clock.monotonic() + self._seconds
        yield f"retry: {RECONNECT_MS}\nid: {position}\n: stream of changes\n\n".encode()
        spoke_at = clock.monotonic()
        while clock.monotonic() < ends_at and not self._context.shutdown.has_begun:
            try:
                changes = await self._context.archive().read_changes(position)
            except StoreError:
                return  # the client reconnects and gets the reason, as a 503
            for change in changes:
                position = change.position
                if workflow in {None, change.run.workflow_id} and run in {None, change.run.id}:
                    yield self._event(change)
                    spoke_at = clock.monotonic()
            if clock.monotonic() - spoke_at >= HEARTBEAT_SECONDS:
                yield b": still here\n\n"
                spoke_at = clock.monotonic()
            if not changes:
                await clock.sleep(POLL_SECONDS)

    def _event(self, change: RunChange) -> bytes:
        summary = summary_of(change.run, defined=change.run.workflow_id in self._context.catalog)
        return b"id: %b\nevent: run\ndata: %b\n\n" % (change.position.encode(), to_json(summary))
