"""The parts that a workflow's engine works with, handed on as one object."""

import random as system_random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from autopilot.core import run_log as run_log_module
from autopilot.core.clock import Clock, SystemClock, random_id
from autopilot.core.shutdown import PROCESS_SHUTDOWN, Shutdown
from autopilot.core.steps.threads import StartThread, start_thread
from autopilot.core.store import RunJournal, RunLogService


class StepProbe:
    """Called around every step's body and after ``execute``. The test kit observes a workflow through it; by default
    nothing happens.
    """

    def before_body(self, run_id: str, key: str) -> None: ...

    def after_body(self, run_id: str, key: str) -> None: ...

    def after_execution(self, run_id: str) -> None:
        """``execute`` returned, and has awaited its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Stores, time, randomness and the process around a workflow's engine."""

    run_log: Callable[[], RunLogService]
    """Gives the run log; called at each use."""
    journal: Callable[[], RunJournal] | None
    """Gives the journal beside it; None: there is only a run log, so runs cannot be resumed and have no steps."""
    clock: Clock = field(default_factory=SystemClock)
    new_id: Callable[[], str] = random_id
    random: Callable[[], float] = system_random.random
    """Gives numbers from 0 to 1, for the pauses between tries."""
    probe: StepProbe = field(default_factory=StepProbe)
    shutdown: Shutdown = PROCESS_SHUTDOWN
    start_thread: StartThread = start_thread
    """Starts a thread for each body that is a plain function."""

    @classmethod
    def over(cls, run_log: RunLogService | None) -> Self:
        """The parts of a process, over a run log that was handed in; with None, over the store of the settings."""
        if run_log is not None:
            return cls(run_log=lambda: run_log, journal=None)
        return cls(run_log=_process_run_log, journal=_process_journal)


# Looked up through their module at each use, so that a test can replace them there.


def _process_run_log() -> RunLogService:
    return run_log_module.get_run_log_service()


def _process_journal() -> RunJournal:
    return run_log_module.get_run_journal()
