"""Every name that the contract does not list is the author's."""

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from autopilot import BaseWorkflow, RunContext, TriggerType, WorkflowManifest
from autopilot.core.store import Store
from tests.fakes import InMemoryRunLog
from tests.runs import without_values

CONTRACT = {
    "Config",
    "execute",
    "last_run",
    "recent_runs",
    "run",
    "setup",
    "success_rate",
    "total_runs",
    "workflow_id",
}

TAKEN_BEFORE = (
    "_answering",
    "_clock",
    "_engine",
    "_equip",
    "_execute",
    "_history",
    "_journal",
    "_lock",
    "_make_ready",
    "_new_id",
    "_new_run",
    "_probe",
    "_random",
    "_recorder",
    "_run_log",
    "_schema",
    "_set_up",
    "_shutdown",
    "_start",
    "_step_runner",
    "_work_on",
    "engine",
    "invoke",
    "payload_json_schema",
    "resume",
    "retry",
    "stats",
)

pytestmark = pytest.mark.usefixtures("events")


def test_the_class_has_the_names_of_the_contract_and_no_other() -> None:
    ours = {name for name in vars(BaseWorkflow) if not (name.startswith("__") and name.endswith("__"))}

    assert ours == CONTRACT


def test_an_instance_has_one_attribute_of_ours_which_no_authors_code_can_meet() -> None:
    class Mine(BaseWorkflow):
        manifest = WorkflowManifest(name="mine")

        async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> None: ...

    (name,) = vars(Mine())

    assert name.startswith("_BaseWorkflow__autopilot")


def refusing(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError(f"the engine used the author's {name}")

    return refuse


@pytest.mark.parametrize("name", TAKEN_BEFORE)
@pytest.mark.parametrize("kind", ("method", "property", "class attribute"))
async def test_an_authors_own_name_changes_nothing(default_store: Store, name: str, kind: str) -> None:
    mine = {"method": refusing(name), "property": property(refusing(name)), "class attribute": None}[kind]

    async def execute(self: Any, ctx: RunContext, payload: dict[str, Any]) -> int:
        return await ctx.step("double", lambda: int(payload["n"]) * 2)

    workflow = type(
        "Mine", (BaseWorkflow,), {"manifest": WorkflowManifest(name="mine"), "execute": execute, name: mine}
    )()
    run = await workflow.run(TriggerType.MANUAL, {"n": 21})

    assert (run.status, run.result, workflow.total_runs) == ("success", 42, 1)
    assert inspect.getattr_static(workflow, name) is mine


class Slotted(BaseWorkflow):
    __slots__ = ("_start", "limit")
    manifest = WorkflowManifest(name="slotted")

    def __init__(self) -> None:
        super().__init__()
        self._start = self.limit = 3

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
        return self._start + self.limit


class Unconstructed(BaseWorkflow):
    manifest = WorkflowManifest(name="unconstructed")

    def __init__(self) -> None:
        self.limit = 6  # and no call of ours

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
        return self.limit


@dataclass(frozen=True)
class Frozen(BaseWorkflow):
    manifest = WorkflowManifest(name="frozen")
    limit: int = 6

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
        return self.limit


class Guarded(BaseWorkflow):
    manifest = WorkflowManifest(name="guarded")

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise LookupError(name)

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
        return 6


class Equal(BaseWorkflow):
    manifest = WorkflowManifest(name="equal")
    __hash__ = None  # type: ignore[assignment] # an author's class with equality and without a hash

    def __eq__(self, other: object) -> bool:
        return True

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
        return 6


class Odd(BaseWorkflow):
    manifest = WorkflowManifest(name="odd")
    __bool__ = __len__ = __hash__ = __repr__ = __str__ = __call__ = __iter__ = __dir__ = refusing("dunder")
    __dict__ = __class__ = property(refusing("dunder"))

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
        return 6


class OddMeta(type):
    __eq__ = __bool__ = __len__ = __repr__ = __instancecheck__ = refusing("metaclass")
    __hash__ = None  # type: ignore[assignment]


class OddKind(BaseWorkflow, metaclass=OddMeta):
    manifest = WorkflowManifest(name="odd_kind")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
        return 6


class Mixin:
    __slots__ = ("inside",)


class Mixed(Mixin, BaseWorkflow):
    manifest = WorkflowManifest(name="mixed")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
        return 6


@pytest.mark.parametrize("workflow", (Slotted, Unconstructed, Frozen, Guarded, Equal, Odd, OddKind, Mixed))
async def test_an_authors_class_can_be_of_any_shape(default_store: Store, workflow: type[BaseWorkflow]) -> None:
    instance = workflow()

    runs = [await instance.run(TriggerType.MANUAL) for _ in range(2)]

    assert [run.result for run in runs] == [6, 6]
    assert (instance.total_runs, instance.last_run) == (2, without_values(runs[1]))


class Limited(BaseWorkflow):
    manifest = WorkflowManifest(name="limited")

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
        return await ctx.step("limit", lambda: self.limit)


class Bare(BaseWorkflow):
    manifest = WorkflowManifest(name="bare")

    async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("copied", (copy.copy, copy.deepcopy, lambda workflow: pickle.loads(pickle.dumps(workflow))))
async def test_a_copy_of_an_instance_executes_its_own_code(
    default_store: Store, copied: Callable[[Limited], Limited]
) -> None:
    first = Limited(6)
    await first.run(TriggerType.MANUAL)

    second = copied(first)
    second.limit = 7
    runs = [await workflow.run(TriggerType.MANUAL) for workflow in (first, second)]

    assert [run.result for run in runs] == [6, 7]
    assert (first.total_runs, second.total_runs) == (2, 3)
    assert (first.last_run, second.last_run) == (without_values(runs[0]), without_values(runs[1]))


async def test_a_copy_writes_to_the_run_log_of_its_original() -> None:
    run_log = InMemoryRunLog()

    await copy.copy(Bare(run_log=run_log)).run(TriggerType.MANUAL)

    assert len(run_log.runs) == 1


async def test_a_class_of_the_same_name_as_ours_has_its_own_private_names(default_store: Store) -> None:
    class BaseWorkflow(Unconstructed):
        manifest = WorkflowManifest(name="namesake")

        def __init__(self) -> None:
            self.__engine = 6
            super().__init__()

        async def execute(self, ctx: RunContext, payload: dict[str, Any]) -> int:
            return self.__engine

    run = await BaseWorkflow().run(TriggerType.MANUAL)

    assert run.result == 6
