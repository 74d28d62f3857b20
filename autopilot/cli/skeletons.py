"""The files that a new bundle or a new workflow begins with, made from the package's templates."""

from importlib import resources
from importlib.resources.abc import Traversable
from string import Template

_SUFFIX = ".tmpl"
_UNDOTTED = {"gitignore": ".gitignore"}
"""A file of this name would hide its neighbours from the tools that build the package."""


def bundle_files(*, title: str, deployed: str, command: str) -> dict[str, str]:
    """The text of each file of a new bundle without workflows, by its path with slashes.

    Args:
        title: the heading of its README.
        deployed: the requirement of Autopilot as it is deployed.
        command: the requirement of Autopilot with its command.
    """
    values = {"title": title, "deployed": deployed, "command": command}
    return {path: Template(text).substitute(values) for path, text in _templates("bundle").items()}


def workflow_files(name: str, *, tests: str) -> dict[str, str]:
    """The text of each file of a new workflow, by its path with slashes; ``tests`` is the folder of its test."""
    templates = _templates("workflow")
    values = {"name": name, "class_name": class_name(name), "title": name.replace("_", " ").capitalize()}
    return {
        f"functions/{name}.py": Template(templates["function.py"]).substitute(values),
        f"{tests}/test_{name}.py": Template(templates["test_function.py"]).substitute(values),
    }


def class_name(workflow: str) -> str:
    """The name of a workflow's class: ``feed_digest`` is ``FeedDigest``."""
    return "".join(part.capitalize() for part in workflow.split("_"))


def _templates(folder: str) -> dict[str, str]:
    found: dict[str, str] = {}
    _collect(resources.files("autopilot.cli") / "templates" / folder, "", found)
    return found


def _collect(folder: Traversable, prefix: str, found: dict[str, str]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, f"{prefix}{entry.name}/", found)
        elif entry.name.endswith(_SUFFIX):
            name = entry.name.removesuffix(_SUFFIX)
            found[f"{prefix}{_UNDOTTED.get(name, name)}"] = entry.read_text(encoding="utf-8")
