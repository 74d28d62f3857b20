"""Fan-out: one step for each item, a bounded number at once, until the completion policy is met or out of reach."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from autopilot.core.steps.failures import failure_fields
from autopilot.core.steps.keys import readable_key
from autopilot.core.steps.runner import StepRunner
from autopilot.errors import MapFailed, StepFailed
from autopilot.models import Completion, StepStatus

T = TypeVar("T")

MAX_ITEM_ERROR = 200
"""Characters of an item's error that the fan-out tells."""

ALL_ERRORS = 64 * 1024
"""Characters that they may have together: however many fail, which ones fits into one record."""

_CLASSES_KEPT = 60

_ROUNDING = 1e-9
"""29 % of 100 items are 29, and not the 28.999999999999996 that they are in binary."""

ItemStatus = Literal["success", "failed", "unfinished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapItem(Generic[T]):
    """What came of one item."""

    index: int
    key: str
    """The full key of its step."""
    status: ItemStatus
    """``unfinished``: cancelled or not begun, since enough others had succeeded or too many failed."""
    value: T | None = None
    error: str | None = None
    error_type: str | None = None


@dataclass(frozen=True, slots=True)
class MapResult(Generic[T]):
    """What came of all items, in their order."""

    items: tuple[MapItem[T], ...]

    @property
    def successes(self) -> list[T]:
        """The results of the items that succeeded, in the items' order."""
        return [item.value for item in self.items if item.status == "success"]  # type: ignore[misc] # a success has one

    @property
    def failures(self) -> list[MapItem[T]]:
        """The items that failed, in order."""
        return [item for item in self.items if item.status == "failed"]

    def __iter__(self) -> Iterator[T]:
        """The results of the items that succeeded."""
        return iter(self.successes)

    def __len__(self) -> int:
        """How many items there were."""
        return len(self.items)


class FanOut(Generic[T]):
    """One fan-out of an attempt.

    The outcome is the same on a resume: what succeeded is recorded item by item, and when some items failed or were
    left unfinished and the policy allows it, which ones is recorded under the fan-out's own key.
    """

    def __init__(self, steps: StepRunner, key: str, item_keys: Sequence[str], completion: Completion) -> None:
        self._steps = steps
        self._key = key
        self._item_keys = item_keys
        self._completion = completion
        self._items: dict[int, MapItem[T]] = {}
        self._counts: Counter[ItemStatus] = Counter()
        self._exit: BaseException | None = None
        self._first_trace = len(item_keys), ""
        """The index of the first item that failed here, and the text of its traceback."""

    async def run(self, execute: Callable[[int], Awaitable[T]], max_concurrency: int) -> MapResult[T]:
        """Execute every item by its index.

        Raises:
            MapFailed: the completion policy is out of reach.
        """
        began = self._steps.clock.now()
        recorded = self._steps.records.find(self._key)
        if recorded is not None:
            self._take_over(json.loads(recorded.result or "{}"))
        indexes = [index for index in range(len(self._item_keys)) if index not in self._items]
        # Once it is decided which items count, all of them do: it is no longer over when there are enough.
        await self._work(execute, indexes, max_concurrency, until_settled=recorded is None)
        self._cut_errors()
        result = MapResult(tuple(self._item(index) for index in range(len(self._item_keys))))
        left_out = {item.key: [item.error_type, item.error] for item in result.items if item.status != "success"}
        text = json.dumps(left_out, separators=(",", ":"))
        if self._is_out_of_reach() or (recorded is not None and recorded.status is StepStatus.FAILED):
            failed = self._failed(result)
            if recorded is None:
                record = self._steps.failure_record(self._key, failed, (failed,), 1, began, result=text)
                await self._steps.record(record)
            else:
                await self._steps.consequences.settle()
            raise self._steps.consequences.raised(failed)
        if left_out and recorded is None:
            record = self._steps.step_record(self._key, StepStatus.SUCCESS, 1, began, result=text)
            await self._steps.record(record)
        return result

    def _failed(self, result: MapResult[T]) -> MapFailed:
        failures = result.failures
        first = failures[0]
        first_error = f"{readable_key(first.key)}: {first.error_type}: {first.error}"
        records = (self._steps.records.find(item.key) for item in failures)
        classes = dict.fromkeys(name for record in records if record is not None for name in record.error_classes)
        message = f"{len(failures)} of {len(result)} items failed: {first_error}"
        failed = MapFailed(self._key, message, result, classes=tuple(classes)[:_CLASSES_KEPT])
        failed.trace = self._first_trace[1]
        return self._steps.consequences.raised(failed)

    def _take_over(self, left_out: dict[str, list[str | None]]) -> None:
        """What an earlier execution left out, this one leaves out too."""
        for index, key in enumerate(self._item_keys):
            if key in left_out:
                error_type, error = left_out[key]
                status: ItemStatus = "unfinished" if error_type is None else "failed"
                self._take(MapItem(index=index, key=key, status=status, error=error, error_type=error_type))

    def _take(self, item: MapItem[T]) -> None:
        self._items[item.index] = item
        self._counts[item.status] += 1

    def _item(self, index: int) -> MapItem[T]:
        return self._items.get(index) or MapItem(index=index, key=self._item_keys[index], status="unfinished")

    async def _work(
        self,
        execute: Callable[[int], Awaitable[T]],
        indexes: Sequence[int],
        max_concurrency: int,
        *,
        until_settled: bool,
    ) -> None:
        waiting = iter(indexes)

        async def worker() -> None:
            for index in waiting:
                self._take(await self._execute(execute, index))
                if self._exit is not None or (until_settled and self._is_settled()):
                    raise _Settled

        workers = [asyncio.ensure_future(worker()) for _ in range(min(max_concurrency, len(indexes)))]
        try:
            await asyncio.gather(*workers)
        except _Settled:
            pass
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if self._exit is not None:
            raise self._exit

    async def _execute(self, execute: Callable[[int], Awaitable[T]], index: int) -> MapItem[T]:
        key = self._item_keys[index]
        try:
            return MapItem(index=index, key=key, status="success", value=await execute(index))
        except StepFailed as error:  # not swallowed: the completion policy decides what it means
            error_type, text, _ = failure_fields(error)
            self._first_trace = min(self._first_trace, (index, error.trace))
            return MapItem(index=index, key=key, status="failed", error=text[:MAX_ITEM_ERROR], error_type=error_type)
        except (KeyboardInterrupt, SystemExit) as error:
            self._exit = error  # raised where the fan-out was called: out of a task it would end the event loop
            return MapItem(index=index, key=key, status="unfinished")

    def _is_settled(self) -> bool:
        enough = self._completion.min_successful
        return self._is_out_of_reach() or (enough is not None and self._counts["success"] >= enough)

    def _is_out_of_reach(self) -> bool:
        total, failed = len(self._item_keys), self._counts["failed"]
        enough = self._completion.min_successful
        if enough is not None and total - failed < min(enough, total):
            return True
        return failed > self._tolerated(total)

    def _tolerated(self, total: int) -> int:
        policy = self._completion
        limits = [
            *([policy.tolerated_failures] if policy.tolerated_failures is not None else []),
            *(
                [math.floor(policy.tolerated_failure_share * total + _ROUNDING)]
                if policy.tolerated_failure_share is not None
                else []
            ),
        ]
        if limits:
            return min(limits)
        return total if policy.min_successful is not None else 0

    def _cut_errors(self) -> None:
        room = ALL_ERRORS // max(1, self._counts["failed"])
        for index, item in self._items.items():
            if item.error is not None and len(item.error) > room:
                self._items[index] = replace(item, error=item.error[:room])


class _Settled(Exception):
    """Nothing that is still under way can change the outcome."""
