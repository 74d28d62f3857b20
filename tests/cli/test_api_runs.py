"""The runs behind a deployed API: the client against the real application, and against what else answers."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from autopilot.api.app import create_context
from autopilot.api.workflow_client import WorkflowClient
from autopilot.base_workflow import BaseWorkflow
from autopilot.cli.api_runs import ApiRuns
from autopilot.cli.credentials import TOKEN_KEPT, ApiCredentials
from autopilot.cli.exits import CommandFailed, ConfirmationNeeded, ExitCode
from autopilot.cli.run_source import collect_runs, locate_run
from autopilot.context import RunContext
from autopilot.core.store import RunFilter, Store
from autopilot.dashboard.app import create_app
from autopilot.models import RunStatus, TriggerType, WorkflowManifest, WorkflowRun
from autopilot.settings import load_settings
from autopilot.testing import ManualClock
from tests.cli.history import FAILED, a_run

KEY = "a key of sixteen characters"


class Digest(BaseWorkflow):
    manifest = WorkflowManifest(name="digest")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> None:
        """Never called here."""


class Functions:
    """The functions of the workflows, as the API asks them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.answer = httpx.Response(200, json={}, headers={"Autopilot-Run-Id": "r", "Autopilot-Run-Status": "success"})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        self.bodies.append(request.content)
        return self.answer


@pytest.fixture
def functions() -> Functions:
    return Functions()


@pytest.fixture
def transport(default_store: Store, functions: Functions, monkeypatch: pytest.MonkeyPatch) -> httpx.ASGITransport:
    """An API with a key, over an empty history."""
    monkeypatch.setenv("AUTOPILOT_API_KEY", KEY)
    client = WorkflowClient({"digest": "http://digest"}, transport=httpx.MockTransport(functions))
    return httpx.ASGITransport(
        create_app(create_context([Digest()], load_settings(), client=client, clock=ManualClock()))
    )


@pytest.fixture
async def runs(transport: httpx.ASGITransport) -> AsyncIterator[ApiRuns]:
    source = ApiRuns("https://api.example/", credentials=ApiCredentials(key=KEY), transport=transport)
    yield source
    await source.close()


@pytest.fixture
async def recorded(default_store: Store) -> WorkflowRun:
    await default_store.save_run(FAILED)
    return FAILED


async def test_runs_are_chosen_and_paged_by_the_api(runs: ApiRuns, default_store: Store) -> None:
    for number in range(205):
        await default_store.save_run(a_run(f"run-{number}", age=timedelta(minutes=number)))
    await default_store.save_run(FAILED)

    everything = await collect_runs(runs, RunFilter(workflow_id="digest"))
    some = await collect_runs(runs, RunFilter(workflow_id="digest"), limit=203)
    failed = await runs.find_runs(RunFilter(status=RunStatus.FAILED), limit=10)
    now = datetime.now(UTC)
    old = await runs.find_runs(RunFilter(until=now - timedelta(minutes=203, seconds=30)), limit=10)
    between = await runs.find_runs(
        RunFilter(since=now - timedelta(minutes=102, seconds=30), until=now - timedelta(minutes=99, seconds=30)),
        limit=10,
    )
    by_call = await runs.find_runs(RunFilter(trigger_type=TriggerType.HTTP), limit=10)

    assert (len(everything.runs), everything.next_cursor) == (206, None)
    assert len({run.id for run in some.runs}) == 203
    assert some.next_cursor is not None
    assert [run.id for run in failed.runs] == [FAILED.id]
    assert [run.id for run in old.runs] == ["run-204"]
    assert [run.id for run in between.runs] == ["run-100", "run-101", "run-102"]
    assert by_call.runs == []


async def test_a_run_is_found_by_its_beginning_whoever_it_belongs_to(runs: ApiRuns, default_store: Store) -> None:
    await default_store.save_run(FAILED)

    assert (await locate_run(runs, FAILED.id[:6])).run == FAILED
    assert await runs.workflow_names() == ["digest"]
    assert await runs.get_run("digest", "unknown") is None


async def test_what_acts_is_handed_to_the_function(runs: ApiRuns, default_store: Store, functions: Functions) -> None:
    await default_store.save_run(FAILED)

    retried = await runs.retry("digest", FAILED.id, wait=30)
    rerun = await runs.rerun("digest", FAILED.id, wait=30)
    await runs.cancel("digest", FAILED.id)

    assert functions.asked == [f"/runs/{FAILED.id}/retry", "/", f"/runs/{FAILED.id}/cancel"]
    assert (retried.run_id, retried.status, rerun.run_id == FAILED.id) == (FAILED.id, RunStatus.SUCCESS, False)


async def test_a_retry_carries_what_it_confirms(runs: ApiRuns, recorded: WorkflowRun, functions: Functions) -> None:
    await runs.retry("digest", recorded.id, wait=1)
    await runs.retry("digest", recorded.id, wait=1, again_interrupted=["pay", "send[a/b]"])

    assert [json.loads(body or b"null") for body in functions.bodies] == [
        None,
        {"again_interrupted": ["pay", "send[a/b]"]},
    ]


async def test_a_retry_that_must_confirm_steps_names_them(
    runs: ApiRuns, recorded: WorkflowRun, functions: Functions
) -> None:
    error = {"code": "steps_interrupted", "message": "confirm", "details": {"run_id": "r", "steps": ["pay", "send"]}}
    functions.answer = httpx.Response(409, json={"error": error})

    with pytest.raises(ConfirmationNeeded) as needed:
        await runs.retry("digest", recorded.id, wait=1)

    assert (needed.value.code, needed.value.steps) == (ExitCode.WRONG_STATE, ("pay", "send"))


@pytest.mark.parametrize(
    ("status", "message", "exit_code"),
    (
        (409, "it is so", ExitCode.WRONG_STATE),
        (404, "it is so", ExitCode.NOT_FOUND),
        (503, "it is so", ExitCode.NOT_SERVED),
        (500, "answered 500", ExitCode.NOT_SERVED),
    ),
)
async def test_a_refusal_is_told_in_the_functions_words(
    runs: ApiRuns, recorded: WorkflowRun, functions: Functions, *, status: int, message: str, exit_code: ExitCode
) -> None:
    functions.answer = httpx.Response(status, json={"error": {"code": "a_code", "message": "it is so"}})

    with pytest.raises(CommandFailed, match=message) as failure:
        await runs.retry("digest", recorded.id, wait=1)

    assert failure.value.code is exit_code


async def test_a_missing_key_says_which_variable_to_set(transport: httpx.ASGITransport) -> None:
    with pytest.raises(CommandFailed, match="set AUTOPILOT_API_KEY") as failure:
        await ApiRuns("https://api.example", transport=transport).workflow_names()

    assert failure.value.code is ExitCode.REFUSED


@pytest.mark.parametrize(
    ("answer", "exit_code", "message"),
    (
        (lambda _: httpx.Response(403, text="<html>Forbidden"), ExitCode.REFUSED, "403 Forbidden; .*roles/run.invoker"),
        (lambda _: httpx.Response(200, text="<html>hello"), ExitCode.NOT_SERVED, "is not an Autopilot API"),
        (lambda _: httpx.Response(200, json={"other": 1}), ExitCode.NOT_SERVED, "is not an Autopilot API"),
        (lambda _: httpx.Response(404, text="<html>"), ExitCode.NOT_SERVED, "it has no /api/v1/runs"),
        (lambda _: httpx.Response(302, headers={"location": "/login"}), ExitCode.NOT_SERVED, "302"),
        (
            lambda _: (_ for _ in ()).throw(httpx.ConnectTimeout("")),
            ExitCode.NOT_SERVED,
            "does not answer: ConnectTimeout",
        ),
    ),
)
async def test_what_is_no_api_of_ours_is_told(
    answer: Callable[[httpx.Request], httpx.Response], exit_code: ExitCode, message: str
) -> None:
    runs = ApiRuns("https://api.example", transport=httpx.MockTransport(answer))

    with pytest.raises(CommandFailed, match=message) as failure:
        await runs.find_runs(RunFilter(), limit=1)

    assert failure.value.code is exit_code


def test_an_identity_token_is_renewed_before_it_ends() -> None:
    clock, tokens = ManualClock(), iter(("one", "two"))
    credentials = ApiCredentials(fetch_token=lambda: next(tokens), clock=clock)

    first, again = credentials(), credentials()
    clock.advance(TOKEN_KEPT)

    assert first == again == {"Authorization": "Bearer one"}
    assert credentials() == {"Authorization": "Bearer two"}


def test_without_gcloud_a_key_is_enough_and_no_key_is_not() -> None:
    asked: list[str] = []

    def nobody() -> str:
        asked.append("gcloud")
        raise CommandFailed(ExitCode.REFUSED, "gcloud is not installed")

    with_key = ApiCredentials(key=KEY, fetch_token=nobody)

    assert with_key() == with_key() == {"X-API-Key": KEY}
    assert asked == ["gcloud"]  # it takes a second, and a dashboard makes many requests
    with pytest.raises(CommandFailed, match="not installed"):
        ApiCredentials(fetch_token=nobody)()
