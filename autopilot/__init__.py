"""Autopilot: durable workflows for Google Cloud Functions.

Authors of workflows import everything from here::

    from autopilot import BaseWorkflow, RunContext, WorkflowManifest

A name is loaded when it is first used, so that a cold start pays only for the names that its function uses. Public
names belong to this package wherever their code is: ``repr(Retry)`` is ``<class 'autopilot.Retry'>``, and so it reads
in tracebacks and pickles. The price is that ``inspect.getsource`` finds functions and methods, but not these classes.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autopilot.base_workflow import BaseWorkflow as BaseWorkflow
    from autopilot.context import RunContext as RunContext
    from autopilot.core.clock import Clock as Clock
    from autopilot.core.steps.map import (
        MapItem as MapItem,
        MapResult as MapResult,
    )
    from autopilot.dashboard.entry_point import api_entry_point as api_entry_point
    from autopilot.errors import (
        AutopilotError as AutopilotError,
        ConfigInvalid as ConfigInvalid,
        ConfigurationError as ConfigurationError,
        CrashLoop as CrashLoop,
        JournalRequired as JournalRequired,
        MapFailed as MapFailed,
        NonRetryable as NonRetryable,
        PayloadConflict as PayloadConflict,
        PayloadError as PayloadError,
        PayloadInvalid as PayloadInvalid,
        PayloadTooLarge as PayloadTooLarge,
        ResultError as ResultError,
        ResultInvalid as ResultInvalid,
        ResultTooLarge as ResultTooLarge,
        RunDeadlineExceeded as RunDeadlineExceeded,
        RunError as RunError,
        RunNotFound as RunNotFound,
        RunStateConflict as RunStateConflict,
        RunSuperseded as RunSuperseded,
        RunTooOld as RunTooOld,
        SettingsInvalid as SettingsInvalid,
        StepError as StepError,
        StepFailed as StepFailed,
        StepInterrupted as StepInterrupted,
        StepNameInvalid as StepNameInvalid,
        StepNameReused as StepNameReused,
        StepNotAwaited as StepNotAwaited,
        StepResultUnreadable as StepResultUnreadable,
        StepsInterrupted as StepsInterrupted,
        StepTimeout as StepTimeout,
        StoreError as StoreError,
        StoreUnavailable as StoreUnavailable,
        WorkflowInvalid as WorkflowInvalid,
    )
    from autopilot.function.entry_point import entry_point as entry_point
    from autopilot.models import (
        Completion as Completion,
        Retry as Retry,
        RunStatus as RunStatus,
        Schedule as Schedule,
        Trigger as Trigger,
        TriggerType as TriggerType,
        WorkflowManifest as WorkflowManifest,
        WorkflowRun as WorkflowRun,
    )

_HOMES = {
    "api_entry_point": "autopilot.dashboard.entry_point",
    "BaseWorkflow": "autopilot.base_workflow",
    "RunContext": "autopilot.context",
    "Clock": "autopilot.core.clock",
    "MapItem": "autopilot.core.steps.map",
    "MapResult": "autopilot.core.steps.map",
    "AutopilotError": "autopilot.errors",
    "ConfigInvalid": "autopilot.errors",
    "ConfigurationError": "autopilot.errors",
    "CrashLoop": "autopilot.errors",
    "JournalRequired": "autopilot.errors",
    "MapFailed": "autopilot.errors",
    "NonRetryable": "autopilot.errors",
    "PayloadConflict": "autopilot.errors",
    "PayloadError": "autopilot.errors",
    "PayloadInvalid": "autopilot.errors",
    "PayloadTooLarge": "autopilot.errors",
    "ResultError": "autopilot.errors",
    "ResultInvalid": "autopilot.errors",
    "ResultTooLarge": "autopilot.errors",
    "RunDeadlineExceeded": "autopilot.errors",
    "RunError": "autopilot.errors",
    "RunNotFound": "autopilot.errors",
    "RunStateConflict": "autopilot.errors",
    "RunSuperseded": "autopilot.errors",
    "RunTooOld": "autopilot.errors",
    "SettingsInvalid": "autopilot.errors",
    "StepError": "autopilot.errors",
    "StepInterrupted": "autopilot.errors",
    "StepsInterrupted": "autopilot.errors",
    "StepNotAwaited": "autopilot.errors",
    "StepFailed": "autopilot.errors",
    "StepNameInvalid": "autopilot.errors",
    "StepNameReused": "autopilot.errors",
    "StepResultUnreadable": "autopilot.errors",
    "StepTimeout": "autopilot.errors",
    "StoreError": "autopilot.errors",
    "StoreUnavailable": "autopilot.errors",
    "WorkflowInvalid": "autopilot.errors",
    "entry_point": "autopilot.function.entry_point",
    "Completion": "autopilot.models",
    "Retry": "autopilot.models",
    "RunStatus": "autopilot.models",
    "Schedule": "autopilot.models",
    "Trigger": "autopilot.models",
    "TriggerType": "autopilot.models",
    "WorkflowManifest": "autopilot.models",
    "WorkflowRun": "autopilot.models",
}
"""The module that defines each public name. The imports above say the same to type checkers; a test compares them."""

__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list, made from the one above


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(_HOMES[name])
    _adopt_loaded()
    return globals()[name]


def _adopt_loaded() -> None:
    # All that are loaded and not one alone: an error has the same name in a traceback, imported by its author or not.
    for name, home in _HOMES.items():
        if home in sys.modules and (value := vars(sys.modules[home]).get(name)) is not None:
            value.__module__ = __name__
            globals()[name] = value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
