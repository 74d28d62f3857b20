"""Whatever is sent to API v1, it answers what its document says, and never breaks."""

import time
from functools import cache
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from autopilot.api.app import create_context
from autopilot.api.workflow_client import WorkflowClient
from autopilot.core.run_log import use_store
from autopilot.dashboard.app import create_app
from autopilot.settings import load_settings
from autopilot.storage.sqlite.store import SQLiteStore
from autopilot.testing import ManualClock
from tests.functions_by_name import FunctionsTransport
from tests.http_workflows import Counting, Echo, Shop

SERVED = (Shop, Echo, Counting)
SECONDS = 6.0
"""What one call is tried for at most."""

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@cache
def document() -> schemathesis.schemas.BaseSchema:
    transport = FunctionsTransport({each.manifest.name: f"{each.__module__}:{each.__name__}" for each in SERVED})
    client = WorkflowClient(
        {each.manifest.name: f"http://{each.manifest.name}" for each in SERVED}, transport=transport
    )
    context = create_context([each() for each in SERVED], load_settings({}), client=client, clock=ManualClock())
    app: Any = create_app(context)
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers={"Host": "localhost"})


CALLS = (
    "GET /health",
    "GET /workflows",
    "GET /workflows/{name}",
    "GET /workflows/{name}/stats",
    "GET /runs",
    "GET /workflows/{name}/runs",
    "GET /workflows/{name}/runs/{run_id}",
    "GET /workflows/{name}/runs/{run_id}/step",
    "POST /workflows/{name}/trigger",
    "POST /workflows/{name}/runs/{run_id}/retry",
    "POST /workflows/{name}/runs/{run_id}/rerun",
    "POST /workflows/{name}/runs/{run_id}/cancel",
    "DELETE /workflows/{name}/runs/{run_id}",
    "GET /events",
)


@pytest.mark.slow
def test_the_document_has_every_call() -> None:
    operations = [found for found in document().get_all_operations() if isinstance(found, Ok)]

    assert {operation.ok().label for operation in operations} == set(CALLS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")  # of the client that schemathesis uses
@pytest.mark.parametrize("call", CALLS)
def test_no_answer_is_undocumented(call: str) -> None:
    store = SQLiteStore(":memory:", clock=ManualClock())
    method, _, path = call.partition(" ")
    operation = document()[path][method]
    ends_at = time.monotonic() + SECONDS

    @given(case=operation.as_strategy())
    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case[Any]) -> None:
        if time.monotonic() > ends_at:
            return
        # Half of the names that are drawn are nobody's; the others are asked of a workflow.
        if "name" in case.path_parameters and len(str(case.path_parameters["name"])) % 2:
            case.path_parameters["name"] = "shop"
        case.call_and_validate(headers={"Host": "localhost"}, checks=CHECKS)

    with use_store(store):
        check()
    store.close()
