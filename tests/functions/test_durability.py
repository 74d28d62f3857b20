"""The shipped workflows when their instance dies: no recorded request or post is repeated."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from autopilot import RunStatus, WorkflowRun
from autopilot.core.runs.json_types import json_type
from autopilot.core.runs.limits import RESULT_LIMIT
from autopilot.core.steps.results import ResultType
from autopilot.testing import Harness, InstanceKilled, crash_matrix
from functions._feed_parser import MAX_ENTRIES, MAX_LINK, MAX_TITLE, Entry
from functions.feed_digest import FeedDigest, _Findings, _News
from functions.uptime_check import UptimeCheck
from tests.functions.test_feed_digest import rss
from tests.functions.web_server import Reply, WebServer

HOOK = "/hook/s3cret"


@pytest.fixture
def targets(web: WebServer) -> dict[str, Any]:
    web.pages |= {"/up": Reply(200), "/down": Reply(500)}
    return {"targets": [{"url": web.address("/up"), "name": "shop"}, {"url": web.address("/down")}]}


@pytest.fixture
def feeds(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two feeds, one of them broken, and a webhook."""
    web.pages |= {"/rss": Reply(200, rss([2, 1])), "/broken": Reply(404), HOOK: Reply(200)}
    monkeypatch.setenv("FEED_DIGEST_WEBHOOK_URL", web.address(HOOK))
    return {"feeds": [web.address("/rss"), web.address("/broken")]}


def without_latencies(run: WorkflowRun) -> Any:
    """The outcome of a run without its latencies: the pauses of one target move the clock that another is measured by."""
    result = run.result or {}
    targets = [{**target, "latency_ms": None} for target in result.get("targets", [])]
    return run.status, {**result, "targets": targets}, run.error


def has_kept_the_news(run: WorkflowRun) -> bool:
    """Whether a check whose post was cut off succeeded, and left what it may not have posted to the next run."""
    (down,) = (target for target in run.result["targets"] if not target["up"])
    return run.status is RunStatus.SUCCESS and run.result["not_posted"] is not None and down["announced_up"] is True


@pytest.mark.slow
async def test_an_uptime_check_ends_the_same_wherever_it_is_killed(
    targets: dict[str, Any], web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.pages[HOOK] = Reply(200)
    monkeypatch.setenv("UPTIME_CHECK_WEBHOOK_URL", web.address(HOOK))

    report = await crash_matrix(
        UptimeCheck,
        targets,
        outcome=without_latencies,
        interrupted=has_kept_the_news,
        effects=lambda: len(web.asked(HOOK)),
        prepare=web.requests.clear,
        second_kills=10,
    )

    assert report.undisturbed.result["posted"]

    assert report.undisturbed.result["summary"].startswith("1 of 2 up; down: ")


@pytest.mark.slow
async def test_a_feed_digest_ends_the_same_wherever_it_is_killed(feeds: dict[str, Any], web: WebServer) -> None:
    def digests() -> set[str]:
        """What a receiver has that knows idempotency keys."""
        return {request.headers["idempotency-key"] for request in web.asked(HOOK)}

    report = await crash_matrix(FeedDigest, feeds, effects=digests, prepare=web.requests.clear, second_kills=10)

    assert report.undisturbed.result["posted"]


async def test_a_resumed_check_asks_no_target_again_that_it_asked(targets: dict[str, Any], web: WebServer) -> None:
    harness = Harness(UptimeCheck)
    with pytest.raises(InstanceKilled):
        await harness.run(targets, identity="x", kill_at="before commit end")
    web.pages |= {"/up": Reply(500), "/down": Reply(200)}
    harness.expire_lease()

    run = await harness.run(targets, identity="x")

    assert [target["up"] for target in run.result["targets"]] == [True, False]
    assert (len(web.asked("/up")), len(web.asked("/down"))) == (1, 2), "twice, to confirm that it is down"


async def test_a_check_tries_three_times_to_post_what_changed_with_one_idempotency_key(
    targets: dict[str, Any], web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.pages[HOOK] = Reply(503)
    monkeypatch.setenv("UPTIME_CHECK_WEBHOOK_URL", web.address(HOOK))
    harness = Harness(UptimeCheck)

    failed = await harness.run(targets)
    web.pages[HOOK] = Reply(200)
    told = await harness.run(targets)

    assert failed.status is told.status is RunStatus.SUCCESS
    assert (failed.result["not_posted"], failed.result["posted"]) == ("answered 503, not 2xx", False)
    assert (told.result["not_posted"], told.result["posted"], told.result["went_down"]) == (None, True, [])
    keys = [request.headers["idempotency-key"] for request in web.asked(HOOK)]
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]


async def test_the_steps_of_a_check_are_called_like_its_targets_and_hold_no_address(
    targets: dict[str, Any], web: WebServer
) -> None:
    targets["targets"] += [{"url": web.address("/down?token=s3cret")}, {"url": web.address(), "name": "ü" * 100}]
    harness = Harness(UptimeCheck)

    run = await harness.run(targets)

    keys = sorted(await harness.steps(run.id))  # they were recorded as they ended
    assert keys[:3] == ["check[1 shop]", f"check[2 127.0.0.1:{web.port}]", f"check[3 127.0.0.1:{web.port}]"]
    assert run.status is RunStatus.SUCCESS
    assert "s3cret" not in repr(keys)


@pytest.mark.parametrize("moment", ("after commit step post success", "before commit end"))
async def test_what_was_posted_is_not_posted_again_even_if_other_runs_went_on(
    feeds: dict[str, Any], web: WebServer, moment: str
) -> None:
    harness = Harness(FeedDigest)
    with pytest.raises(InstanceKilled):
        await harness.run(feeds, identity="x", kill_at=moment)
    harness.expire_lease()
    other = await harness.run(feeds)

    run = await harness.run(feeds, identity="x")

    first, second = web.asked(HOOK)
    assert json.loads(first.body) == {"text": run.result["digest"]}
    assert json.loads(second.body) == {"text": other.result["digest"]}
    assert run.result["posted"]
    assert len(web.asked("/rss")) == 2, "once by each run"


async def test_every_try_to_post_carries_the_same_idempotency_key_and_another_run_has_another(
    feeds: dict[str, Any], web: WebServer
) -> None:
    web.pages[HOOK] = Reply(503)
    harness = Harness(FeedDigest)
    failed = await harness.run(feeds, identity="x")
    web.pages[HOOK] = Reply(200)
    retried = await harness.retry(failed.id)
    web.pages["/rss"] = Reply(200, rss([3]))
    await harness.run(feeds, identity="y")

    keys = [request.headers["idempotency-key"] for request in web.asked(HOOK)]
    assert (failed.error_type, retried.status) == ("DigestNotPosted", RunStatus.SUCCESS)
    assert len(keys) == 5
    assert len(set(keys[:4])) == 1
    assert keys[4] != keys[0]
    assert len(web.asked("/rss")) == 2


def test_the_most_that_is_recorded_of_a_feed_fits_into_a_step() -> None:
    entry = Entry(
        key="k" * 22,
        title="\N{GRINNING FACE}" * MAX_TITLE,
        link="l" * MAX_LINK,
        published=datetime(2026, 1, 1, tzinfo=UTC),
    )
    keys = ("k" * 22,) * MAX_ENTRIES
    news = _News(title=entry.title, keys=keys, new=(entry,) * 100, more=keys, etag="e" * 256, last_modified="m" * 256)

    text = ResultType(json_type(_Findings)).encode(_Findings(news=news)).text

    assert RESULT_LIMIT // 4 < len(text.encode()) < RESULT_LIMIT
