"""The pytest plugin: ``harness``, ``crash_matrix`` and ``simulate`` as fixtures, in plain and in async tests.

pytest loads it wherever Autopilot is installed, so that it imports nothing of it before a fixture is used.

The fixtures are called as what they are named after. In an ``async def`` test, of whatever plugin runs those on asyncio,
their calls are awaited. In a plain test there is no event loop, and they return when they are done.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from typing import Any

import pytest


@pytest.fixture
def harness() -> Iterator[Callable[..., Any]]:
    """Makes a :class:`autopilot.testing.Harness`: ``harness(Workflow)``; in a plain test its methods block."""
    with asyncio.Runner() as runner:

        def make(*args: Any, **kwargs: Any) -> Any:
            made = _kit("Harness")(*args, **kwargs)
            return made if _is_async() else Blocking(made, runner)

        yield make


@pytest.fixture
def crash_matrix() -> Callable[..., Any]:
    """:func:`autopilot.testing.crash_matrix`."""
    return _fixture("crash_matrix")


@pytest.fixture
def simulate() -> Callable[..., Any]:
    """:func:`autopilot.testing.simulate`."""
    return _fixture("simulate")


class Blocking:
    """An object whose coroutine functions return when they are done.

    Args:
        of: the object.
        runner: has the event loop in which they run, each time the same.
    """

    def __init__(self, of: Any, runner: asyncio.Runner) -> None:
        self._of = of
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if not inspect.iscoroutinefunction(found):
            return found

        @wraps(found)
        def call(*args: Any, **kwargs: Any) -> Any:
            answer = self._runner.run(found(*args, **kwargs))
            return Blocking(answer, self._runner) if hasattr(answer, "wake") else answer

        return call


def _fixture(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        work = _kit(name)(*args, **kwargs)
        return work if _is_async() else asyncio.run(work)

    return call


def _kit(name: str) -> Any:
    return getattr(import_module("autopilot.testing"), name)


def _is_async() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
