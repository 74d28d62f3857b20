"""Whatever is sent to API v1, it answers what its document says, and never breaks."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from autopilot.api.app import create_app
from autopilot.api.workflow_client import WorkflowClient
from autopilot.settings import load_settings
from autopilot.storage import Store
from autopilot.storage.sqlite import SQLiteStore
from tests.clock import FakeClock
from tests.functions_by_name import FunctionsTransport
from tests.http_workflows import Counting, Echo, Shop

pytestmark = pytest.mark.slow

SERVED = (Shop, Echo, Counting)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    store: Store = SQLiteStore(":memory:", clock=FakeClock())
    monkeypatch.setattr("autopilot.storage.process_store", lambda: store)
    names = [each.manifest.name for each in SERVED]
    transport = FunctionsTransport({each.manifest.name: f"{each.__module__}:{each.__name__}" for each in SERVED})
    client = WorkflowClient({name: f"http://{name}" for name in names}, transport=transport)
    return create_app([each() for each in SERVED], load_settings({}), client=client, clock=FakeClock())


@pytest.fixture
def document(app: Any) -> schemathesis.schemas.BaseSchema:
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers={"Host": "localhost"})


schema = schemathesis.pytest.from_fixture("document")


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.timeout(120)
def test_no_answer_is_undocumented(case: schemathesis.Case) -> None:
    case.call_and_validate(
        headers={"Host": "localhost"},
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
