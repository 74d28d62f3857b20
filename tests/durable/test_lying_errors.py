"""Errors whose classes and attributes are an author's code: nothing that they do passes the run's boundary."""

from collections.abc import Callable
from typing import Any

import pytest

from autopilot import RunContext, StepFailed
from autopilot.core.runs.limits import ERROR_LIMIT
from autopilot.testing import Harness
from tests.durable.scripts import scripted


class NoModule(Exception):
    __module__ = None  # type: ignore[assignment]


class Surrogate(Exception):
    __qualname__ = "\ud800"


Huge = type("H" * 2_000_000, (Exception,), {})


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class OfNamelessClass(Exception, metaclass=Nameless):
    pass


class Classless(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class OddText(str):
    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        raise RuntimeError("no bytes")


class OddlyTold(Exception):
    def __str__(self) -> str:
        return OddText("odd")


class Unfinished(StepFailed):
    def __init__(self) -> None:  # does not call the one of its base
        pass


class NoParts(ExceptionGroup[Exception]):
    exceptions = 7  # type: ignore[assignment]


class Own(BaseException):
    """An author's own, and no Exception."""


ERRORS: dict[str, Callable[[], BaseException]] = {
    "NoModule": NoModule,
    "Surrogate": Surrogate,
    "H" * 100: Huge,
    "OddlyTold": OddlyTold,
    "Unfinished": Unfinished,
    "Own": Own,
    "BaseExceptionGroup": lambda: BaseExceptionGroup("some", [SystemExit(1), GeneratorExit()]),
    "GeneratorExit": GeneratorExit,
    "UnreadableError": OfNamelessClass,
    "UnreadableError ": Classless,
    "UnreadableError  ": lambda: NoParts("none", [ValueError()]),
}


def made(name: str) -> BaseException:
    return ERRORS[name]()


@pytest.mark.parametrize("name", ERRORS)
async def test_it_fails_the_run(name: str) -> None:
    async def execute(ctx: RunContext) -> None:
        raise made(name)

    run = await Harness(scripted(execute)).run()

    assert (run.status, (run.error_type or "")[:100]) == ("failed", name.strip())
    assert len(f"{run.error}{run.error_type}") < ERROR_LIMIT


@pytest.mark.parametrize("kind", ("async", "plain"))
@pytest.mark.parametrize("name", ERRORS)
async def test_it_fails_its_step_and_that_is_recorded(name: str, kind: str) -> None:
    seen: list[str] = []

    async def body() -> None:
        raise made(name)

    def plain() -> None:
        raise made(name)

    async def execute(ctx: RunContext) -> str:
        try:
            await ctx.step("fail", plain if kind == "plain" else body, semantics="at_most_once")
        except StepFailed as failed:
            seen.append(failed.error_type[:100])
        return "handled"

    harness = Harness(scripted(execute))
    run = await harness.run()

    assert (run.result, seen) == ("handled", [name.strip()])
    assert (await harness.steps(run.id))["fail"].status == "failed"


@pytest.mark.parametrize("name", ERRORS)
async def test_it_fails_the_run_whose_setup_it_failed(name: str) -> None:
    async def execute(ctx: RunContext) -> None:
        pass

    class Broken(scripted(execute)):  # type: ignore[misc] # a class made by a function
        async def setup(self) -> None:
            raise made(name)

    run = await Harness(Broken).run()

    assert (run.status, (run.error_type or "")[:100]) == ("failed", name.strip())
