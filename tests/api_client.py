"""API v1 over the workflows of tests.http_workflows, with their functions behind it, in this process."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from autopilot.api.app import create_context
from autopilot.api.log_lines import ReadLog
from autopilot.api.workflow_client import WorkflowClient
from autopilot.core.run_log import use_store
from autopilot.core.shutdown import Shutdown
from autopilot.core.store import Store
from autopilot.dashboard.app import create_app
from autopilot.settings import load_settings
from autopilot.testing import ManualClock
from tests.functions_by_name import FunctionsTransport, host_of
from tests.http_workflows import Counting, Echo, Parcel, Shop, Waiting

SERVED = (Shop, Echo, Waiting, Counting, Parcel)

ApiOver = Callable[..., httpx.AsyncClient]


@pytest.fixture
def functions() -> FunctionsTransport:
    """What the API calls; tells what it was sent."""
    return FunctionsTransport({each.manifest.name: f"{each.__module__}:{each.__name__}" for each in SERVED})


@pytest.fixture
def api_over(functions: FunctionsTransport) -> ApiOver:
    """Makes a client of an API: of these settings, over these workflows."""

    def api_over(
        *,
        clock: ManualClock | None = None,
        transport: Any = None,
        shutdown: Shutdown | None = None,
        read_log: ReadLog | None = None,
        **variables: str,
    ) -> httpx.AsyncClient:
        urls = {each.manifest.name: f"http://{host_of(each.manifest.name)}" for each in SERVED}
        client = WorkflowClient(urls, transport=transport or functions)
        settings = load_settings(variables)
        context = create_context(
            [each() for each in SERVED],
            settings,
            client=client,
            clock=clock or ManualClock(),
            shutdown=shutdown or Shutdown(),
            read_log=read_log,
        )
        app: Any = create_app(context)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    return api_over


@pytest.fixture
def process_store(store: Store) -> Iterator[Store]:
    """Each store there is, one after the other, as the one of this process."""
    with use_store(store):
        yield store


@pytest.fixture
def api_clock() -> ManualClock:
    """The time of the API."""
    return ManualClock()


@pytest.fixture
async def api(api_over: ApiOver, process_store: Store, api_clock: ManualClock) -> AsyncIterator[httpx.AsyncClient]:
    async with api_over(clock=api_clock) as client:
        client.base_url = httpx.URL("http://localhost/api/v1")
        yield client
