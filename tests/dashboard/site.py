"""The dashboard and the functions behind it, served in this process for a real browser."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn

from autopilot.api.app import create_context
from autopilot.api.workflow_client import WorkflowClient
from autopilot.dashboard.app import create_app
from autopilot.development.function_server import unused_port
from autopilot.settings import load_settings
from tests.dashboard.past import a_log
from tests.dashboard.workflows import WORKFLOWS, Convoy, Invoice
from tests.functions_by_name import FunctionsTransport, host_of
from tests.http_workflows import Parcel

T = TypeVar("T")


class Site:
    """A server in a thread of its own. ``call`` runs a coroutine where the server runs."""

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        self.port = unused_port()
        self.loop = asyncio.new_event_loop()
        self._settings = settings or {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=20)

    def set(self, event: asyncio.Event) -> None:
        self.loop.call_soon_threadsafe(event.set)

    def _app(self) -> Any:
        paths = {each.manifest.name: f"{each.__module__}:{each.__name__}" for each in WORKFLOWS}
        client = WorkflowClient(
            {name: f"http://{host_of(name)}" for name in paths}, transport=FunctionsTransport(paths)
        )
        workflows = [each() for each in WORKFLOWS]
        return create_app(create_context(workflows, load_settings(), client=client, read_log=a_log))

    @contextmanager
    def served(self) -> Iterator["Site"]:
        Convoy.may_go_on, Convoy.has_begun = asyncio.Event(), asyncio.Event()
        Invoice.ledger_is_down = False
        Parcel.card_is_declined = Parcel.courier_is_late = False
        config = uvicorn.Config(self._app(), "127.0.0.1", self.port, log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=self._run, args=(server,))
        thread.start()
        try:
            while not server.started:
                thread.join(0.01)
            yield self
        finally:
            server.should_exit = server.force_exit = True
            thread.join()

    def _run(self, server: uvicorn.Server) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(server.serve())
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
