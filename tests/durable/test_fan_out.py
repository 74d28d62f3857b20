"""``ctx.map``: concurrency, keys, completion, and the same outcome on a resume."""

import asyncio
import json
from typing import Any

import pytest

from autopilot import BaseWorkflow, Completion, MapFailed, RunContext
from autopilot.core.steps.map import MapResult
from autopilot.testing import Harness, InstanceKilled
from tests.durable.scripts import scripted

EVERY = Completion()


async def even(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def mapping(
    items: list[Any], body: Any = even, seen: list[MapResult[Any]] | None = None, **options: Any
) -> type[BaseWorkflow]:
    async def execute(ctx: RunContext) -> Any:
        result = await ctx.map("m", body, items, **options)
        if seen is not None:
            seen.append(result)
        return [[item.key, item.status, item.value, item.error] for item in result.items]

    return scripted(execute)


async def test_results_come_in_the_order_of_the_items_whatever_order_they_end_in() -> None:
    async def later_first(number: int) -> int:
        for _ in range(10 - number):
            await asyncio.sleep(0)
        return number

    seen: list[MapResult[int]] = []
    await Harness(mapping(list(range(10)), later_first, seen)).run()

    (result,) = seen
    assert result.successes == list(result) == list(range(10))
    assert (len(result), result.failures) == (10, [])


async def test_no_more_than_max_concurrency_are_at_work_at_once() -> None:
    at_work, most = 0, 0

    async def body(_: int) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1

    await Harness(mapping(list(range(20)), body, max_concurrency=3)).run()

    assert most == 3


async def test_nothing_to_do_is_done() -> None:
    run = await Harness(mapping([], completion=Completion(min_successful=3))).run()

    assert (run.status, run.result) == ("success", [])


async def test_items_have_the_keys_that_the_author_gives_and_two_of_one_key_are_an_error() -> None:
    harness = Harness(mapping([2, 4], key=lambda number: f"n/{number}"))
    run = await harness.run()
    twice = await Harness(mapping([2, 4], key=lambda _: "same")).run()

    assert [item[0] for item in run.result] == ["m[n%2F2]", "m[n%2F4]"]
    assert (twice.status, twice.error_type) == ("failed", "StepNameReused")


@pytest.mark.parametrize("max_concurrency", (0, -1))
async def test_a_concurrency_of_nothing_is_refused(max_concurrency: int) -> None:
    run = await Harness(mapping([2], max_concurrency=max_concurrency)).run()

    assert (run.status, run.error_type) == ("failed", "ValueError")


@pytest.mark.parametrize(
    ("items", "completion", "status"),
    (
        ([2, 4], EVERY, "success"),
        ([2, 1], EVERY, "failed"),
        ([2, 1], Completion(tolerated_failures=1), "success"),
        ([3, 1], Completion(tolerated_failures=1), "failed"),
        ([2, 1, 4, 6], Completion(tolerated_failure_share=0.25), "success"),
        ([2, 1, 3, 6], Completion(tolerated_failure_share=0.25), "failed"),
        ([*[1] * 29, *[2] * 71], Completion(tolerated_failure_share=0.29), "success"),
        ([2, 1, 3], Completion(tolerated_failures=2, tolerated_failure_share=0.4), "failed"),
        ([1, 3, 2], Completion(min_successful=1), "success"),
        ([1, 3, 5], Completion(min_successful=1), "failed"),
        ([2, 4], Completion(min_successful=5), "success"),
        ([1, 3, 2], Completion(min_successful=1, tolerated_failures=1), "failed"),
    ),
)
async def test_the_completion_policy_says_whether_it_is_good_enough(
    items: list[int], completion: Completion, status: str
) -> None:
    run = await Harness(mapping(items, completion=completion, max_concurrency=1)).run()

    assert run.status == status, run.error
    assert run.error_type == (None if status == "success" else "MapFailed")


async def test_a_failed_fan_out_tells_what_every_item_came_to() -> None:
    caught: list[MapFailed] = []

    async def execute(ctx: RunContext) -> None:
        try:
            await ctx.map("m", even, [2, 1, 4], max_concurrency=1)
        except MapFailed as error:
            caught.append(error)
            raise

    run = await Harness(scripted(execute)).run()

    assert run.error == "step m: 1 of 3 items failed: m[1]: ValueError: 1 is odd"
    items = caught[0].result.items
    assert [item.status for item in items] == ["success", "failed", "unfinished"]
    assert (items[1].error_type, items[1].error) == ("ValueError", "1 is odd")


async def test_enough_successes_end_it_and_the_rest_is_not_begun() -> None:
    harness = Harness(mapping(list(range(0, 20, 2)), completion=Completion(min_successful=3), max_concurrency=1))
    run = await harness.run()

    assert [item[1] for item in run.result] == ["success"] * 3 + ["unfinished"] * 7
    assert sum(harness.executions(run.id).values()) == 3


@pytest.mark.parametrize(
    ("items", "completion"),
    (
        ([2, 1, 4, 6, 8], Completion(tolerated_failures=1)),
        ([2, 1, 4, 6, 8], Completion(min_successful=2)),
        ([1, 3, 2, 4, 6, 8, 10, 12], Completion(min_successful=3)),
    ),
)
@pytest.mark.parametrize("max_concurrency", (1, 3, 10))
async def test_a_resume_comes_to_the_same_result_even_if_the_items_would_do_otherwise_now(
    items: list[int], completion: Completion, max_concurrency: int
) -> None:
    seen: list[MapResult[int]] = []
    has_changed = False

    async def body(number: int) -> int:
        await asyncio.sleep(0)
        return number if has_changed else await even(number)

    harness = Harness(mapping(items, body, seen, completion=completion, max_concurrency=max_concurrency))
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="before commit end")
    executed = harness.executions((await harness.runs())[0].id)
    has_changed = True
    harness.expire_lease()
    run = await harness.run(identity="x")

    assert seen[0] == seen[1]
    assert harness.executions(run.id) == executed


async def test_steps_in_an_item_are_part_of_it() -> None:
    async def execute(ctx: RunContext) -> list[int]:
        async def body(number: int) -> int:
            return await ctx.step("double", lambda: number * 2)

        return (await ctx.map("m", body, [1, 2, 3])).successes

    harness = Harness(scripted(execute))
    run = await harness.run()

    assert run.result == [2, 4, 6]
    assert set(await harness.steps(run.id)) == {f"m[{i}]" for i in range(3)} | {f"m[{i}]/double" for i in range(3)}


@pytest.mark.slow
async def test_many_failures_with_long_errors_fit_into_the_record() -> None:
    async def fail(number: int) -> None:
        raise ValueError("long " * 1000)

    items = list(range(3000))
    harness = Harness(mapping(items, fail, completion=Completion(tolerated_failure_share=1.0), max_concurrency=100))
    run = await harness.run()

    assert run.status == "success", run.error
    left_out = json.loads((await harness.steps(run.id))["m"].result or "")
    assert len(left_out) == 3000
    assert left_out["m[0]"] == ["ValueError", run.result[0][3]]


async def test_an_item_that_exits_the_process_fails_the_run_and_not_the_server() -> None:
    async def leave(number: int) -> None:
        raise SystemExit(3)

    run = await Harness(mapping([1, 2, 3], leave)).run()

    assert (run.status, run.error_type) == ("failed", "MapFailed")
    assert "m[0]: SystemExit: 3" in (run.error or "")


async def test_a_fan_out_that_is_cancelled_leaves_no_item_at_work() -> None:
    begun, ended = [], []

    async def body(number: int) -> None:
        begun.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    async def execute(ctx: RunContext) -> str:
        try:
            async with asyncio.timeout(0.05):
                await ctx.map("m", body, [1, 2, 3])
        except TimeoutError:
            return "late"
        return "done"

    run = await Harness(scripted(execute)).run()

    assert run.result == "late"
    assert begun == ended == [1, 2, 3]


async def test_successes_beyond_those_needed_that_came_at_once_count_on_a_resume_too() -> None:
    seen: list[list[int]] = []

    async def execute(ctx: RunContext) -> list[int]:
        at_once = 3 if ctx.attempt == 1 else 1
        policy = Completion(min_successful=1)
        result: MapResult[int] = await ctx.map("m", same, range(4), max_concurrency=at_once, completion=policy)
        seen.append(result.successes)
        return await ctx.step("after", lambda: seen[-1])

    async def same(number: int) -> int:
        return number

    harness = Harness(scripted(execute))
    with pytest.raises(InstanceKilled):
        await harness.run(identity="x", kill_at="before body after")
    harness.expire_lease()
    run = await harness.run(identity="x")

    assert seen[0] == seen[1] == run.result
    assert len(seen[0]) >= 1
