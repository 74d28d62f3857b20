"""A plan as a person reviews it: every resource with what it is given, and what each kind waits for.

``python -m tests.terraform.inventory`` writes inventory.json anew after a change that is meant; review its diff.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2

from tests.terraform.configuration import BUNDLE, FOLDER, Configuration

FILE = Path(__file__).parent / "inventory.json"
CHOSEN = Path(__file__).parent / "chosen.tfvars"

_DIGEST = re.compile(r"[0-9a-f]{64}")


def inventory_of(plan: dict[str, Any]) -> dict[str, Any]:
    """``resources``: attributes by address. ``waits_for``: what each kind of resource refers to, and where.
    ``written``: what a plan does not tell: dynamic blocks, lifecycles, and values of resources under other names."""
    planned = plan["planned_values"]["root_module"]["resources"]
    configured = plan["configuration"]["root_module"]["resources"]
    return {
        "outputs": {
            name: _references(output["expression"])
            for name, output in plan["configuration"]["root_module"]["outputs"].items()
        },
        "resources": {resource["address"]: _given(resource["values"]) for resource in planned},
        "waits_for": {
            resource["address"]: _references(resource.get("expressions", {}))
            | {"depends_on": sorted(resource.get("depends_on", []))}
            for resource in configured
        },
        "written": dict(sorted(_written())),
    }


def _written() -> Iterator[tuple[str, Any]]:
    for file in FOLDER.glob("*.tf"):
        parsed = hcl2.loads(file.read_text())
        for kind, name, body in _blocks(parsed.get("resource", [])):
            kept = {
                key: value
                for key, value in body.items()
                if key in {"dynamic", "lifecycle"} or "'dynamic'" in str(value)
            }
            if kept:
                yield f"{kind}.{name}", _plain(kept)
        for values in parsed.get("locals", []):
            yield from ((f"local.{name}", _plain(value)) for name, value in values.items() if "google_" in str(value))


def _blocks(resources: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for resource in resources:
        for kind, named in resource.items():
            yield from ((kind.strip('"'), name.strip('"'), body) for name, body in named.items())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.strip('"'): _plain(inner) for key, inner in value.items() if not key.startswith("__")}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _given(value: Any) -> Any:
    """``value`` without what is empty, and without digests of files."""
    if isinstance(value, dict):
        kept = {key: _given(inner) for key, inner in value.items() if inner not in (None, [], {})}
        return dict(sorted(kept.items()))
    if isinstance(value, list):
        # Empty blocks count: they switch something on.
        return [_given(inner) for inner in value]
    return _DIGEST.sub("(digest)", value) if isinstance(value, str) else value


def _references(expressions: Any, place: str = "") -> dict[str, list[str]]:
    """The references of each argument, by its place; the whole path of each and not its beginnings."""
    found: dict[str, list[str]] = {}
    if isinstance(expressions, list):
        for inner in expressions:
            found |= _references(inner, place)
    elif isinstance(expressions, dict):
        references = expressions.get("references")
        if isinstance(references, list):
            paths = sorted(set(references))
            found[place] = [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]
        else:
            for name, inner in expressions.items():
                found |= _references(inner, f"{place}.{name}".lstrip("."))
    return found


def as_text(inventory: dict[str, Any]) -> str:
    return json.dumps(inventory, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        plan = Configuration(Path(scratch)).plan(f"-var-file={BUNDLE}", f"-var-file={CHOSEN}")
    FILE.write_text(as_text(inventory_of(plan)))


if __name__ == "__main__":
    main()
