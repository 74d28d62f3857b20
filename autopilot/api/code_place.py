"""Where in a bundle an exception was raised, read from its stack trace."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FRAME = re.compile(r'^[ |+-]*File "(.+)", line ([0-9]+), in (.+)\n(?:[ |]+(\S.*)\n)?', re.MULTILINE)
_OURS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class CodePlace:
    """A line of a bundle."""

    file: str
    """Its path below the bundle."""
    line: int
    function: str
    code: str
    """The text of the line; empty where the trace has none."""


def place_of_last_error(events: Sequence[Mapping[str, Any]], root: Path) -> CodePlace | None:
    """Where in the bundle at ``root`` the last exception that a run logged was raised; None: it tells of none there."""
    trace = next((str(event["exception"]) for event in reversed(events) if event.get("exception")), "")
    return place_in_bundle(trace, root)


def place_in_bundle(stack_trace: str, root: Path) -> CodePlace | None:
    """The innermost line of the last exception that is the bundle's own: of no library, and not of Autopilot."""
    for file, line, function, code in reversed(_FRAME.findall(stack_trace)):
        path = root / file  # a path that is whole stays what it is
        if path.is_relative_to(root) and not path.is_relative_to(_OURS):
            below = path.relative_to(root)
            if not any(part == "site-packages" or part.startswith(".") for part in below.parts):
                return CodePlace(below.as_posix(), int(line), function, code)
    return None
