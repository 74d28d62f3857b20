"""The names that workflow authors import from ``autopilot``, and the cost of importing it."""

import ast
import enum
import importlib
import inspect
import pickle
import pydoc
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import autopilot
from autopilot.testing import Harness
from tests.typing.author import Anything, TakeOrder, functions

NAMES = [
    "AutopilotError",
    "BaseWorkflow",
    "Clock",
    "Completion",
    "ConfigInvalid",
    "ConfigurationError",
    "CrashLoop",
    "JournalRequired",
    "MapFailed",
    "MapItem",
    "MapResult",
    "NonRetryable",
    "PayloadConflict",
    "PayloadError",
    "PayloadInvalid",
    "PayloadTooLarge",
    "ResultError",
    "ResultInvalid",
    "ResultTooLarge",
    "Retry",
    "RunContext",
    "RunDeadlineExceeded",
    "RunError",
    "RunNotFound",
    "RunStateConflict",
    "RunStatus",
    "RunSuperseded",
    "RunTooOld",
    "Schedule",
    "SettingsInvalid",
    "StepError",
    "StepFailed",
    "StepInterrupted",
    "StepNameInvalid",
    "StepNameReused",
    "StepNotAwaited",
    "StepResultUnreadable",
    "StepTimeout",
    "StepsInterrupted",
    "StoreError",
    "StoreUnavailable",
    "Trigger",
    "TriggerType",
    "WorkflowInvalid",
    "WorkflowManifest",
    "WorkflowRun",
    "api_entry_point",
    "entry_point",
]
CLASSES = [name for name in NAMES if not name.endswith("entry_point")]


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.rstrip("\n")


def test_these_names_are_public_and_no_others() -> None:
    assert autopilot.__all__ == NAMES
    assert set(NAMES) <= set(dir(autopilot))


def test_type_checkers_see_the_same_names_in_the_same_modules_as_the_interpreter() -> None:
    tree = ast.parse(Path(autopilot.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "autopilot." in str(node.module)]

    seen = {
        alias.asname: getattr(importlib.import_module(str(node.module)), alias.name)
        for node in imports
        for alias in node.names
    }

    assert seen == {name: getattr(autopilot, name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_of_the_package_wherever_its_code_is(name: str) -> None:
    value = getattr(autopilot, name)

    assert value.__module__ == "autopilot"
    assert pickle.loads(pickle.dumps(value)) is value
    assert f"{name}{'(' if inspect.isroutine(value) else ' in module autopilot'}" in pydoc.plain(
        pydoc.render_doc(value)
    )


@pytest.mark.parametrize("name", CLASSES)
def test_the_repr_of_a_class_names_the_package_and_its_annotations_can_be_read(name: str) -> None:
    value = getattr(autopilot, name)

    assert repr(value) == (f"<enum {name!r}>" if issubclass(value, enum.Enum) else f"<class 'autopilot.{name}'>")
    typing.get_type_hints(value, include_extras=True)
    for function in vars(value).values():
        if inspect.isfunction(function):
            typing.get_type_hints(function)


def test_the_source_of_public_functions_and_methods_is_found() -> None:
    assert inspect.getsource(autopilot.entry_point).startswith("def entry_point(")
    assert "def map(" in inspect.getsource(autopilot.RunContext.map)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'autopilot' has no attribute 'Shedule'"):
        autopilot.Shedule  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Shedule' from 'autopilot'"):
        exec("from autopilot import Shedule")


def test_an_error_has_its_public_name_in_a_traceback_even_if_nobody_imported_it() -> None:
    code = """
import traceback
from autopilot import BaseWorkflow
from autopilot.core.steps import failures
print(*traceback.format_exception_only(failures.StepInterrupted("pay", "StepInterrupted", "cut off")))
"""

    assert in_a_new_process(code).strip() == "autopilot.StepInterrupted: step pay: StepInterrupted: cut off"


def test_importing_autopilot_loads_nothing_and_a_workflow_loads_no_database_no_server_and_no_client() -> None:
    report = "print(*sys.modules.keys() & %r)"
    at_once = {"pydantic", "starlette", "structlog", "asyncio"}
    for_a_workflow = {"google.api_core", "grpc", "sqlite3", "starlette", "functions_framework", "fastapi", "httpx"}

    assert in_a_new_process(f"import sys, autopilot; {report % at_once}") == ""
    assert in_a_new_process(f"import sys; from autopilot import BaseWorkflow; {report % for_a_workflow}") == ""


async def test_the_typed_example_runs() -> None:
    order = await Harness(TakeOrder).run({"item": "tea", "count": 2})
    anything = await Harness(Anything).run({"items": ["1", "no number", "3"]})

    assert order.result == {"text": "paid 6", "quotes": [5, 5, 5]}, order.error
    assert anything.result == ["success", "ValueError", "success"], anything.error
    assert [function.__name__ for function in functions()] == ["author", "api"]
