"""The functions of a bundle as this process serves them."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from functions_framework.aio import create_asgi_app_from_module
from starlette.types import ASGIApp

from autopilot.base_workflow import BaseWorkflow
from autopilot.bundle import load_workflow


@dataclass(frozen=True, slots=True)
class LocalFunction:
    """A workflow's function, as functions-framework serves it."""

    name: str
    """In ``main.py``, and the first part of its path here."""
    workflow: BaseWorkflow[Any, Any]
    app: ASGIApp


@dataclass(frozen=True, slots=True)
class LoadedBundle:
    """What a bundle's ``main.py`` makes of it."""

    folder: Path
    functions: list[LocalFunction]
    faults: list[str]
    """Of the workflows that cannot be served, in words."""


def load_bundle(source: Path) -> LoadedBundle:
    """Import ``main.py`` and every workflow that it makes a function; one that fails leaves the others.

    What ``main.py`` itself raises is raised.
    """
    main = _import_main(source)
    bundle = LoadedBundle(source.resolve().parent, [], [])
    for name, value in sorted(vars(main).items()):
        if not (path := getattr(value, "workflow_path", None)):
            continue
        try:
            workflow = load_workflow(path)()
        except Exception as error:  # noqa: BLE001 - the process boundary: what the author's module raises is told, not known
            bundle.faults.append(f"{name}: {type(error).__name__}: {error}")
            continue
        app: ASGIApp = create_asgi_app_from_module(name, str(source), "http", main, None)  # type: ignore[no-untyped-call]
        bundle.functions.append(LocalFunction(name, workflow, app))
    return bundle


def _import_main(source: Path) -> ModuleType:
    path = source.resolve()
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("main", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{source} is no Python file")
    main = sys.modules["main"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    return main
