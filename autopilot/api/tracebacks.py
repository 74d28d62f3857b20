"""The line of a bundle's code that raised an exception, read from the text of a traceback."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FRAME = re.compile(r'^[ |+-]*File "(.+)", line ([0-9]+), in (.+)\n(?:[ |]+(\S.*)\n)?', re.MULTILINE)
_AUTOPILOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A line of a bundle's code."""

    file: str
    """Its path relative to the bundle."""
    line: int
    function: str
    code: str
    """The text of the line; empty if the traceback does not have it."""


def locate_last_error(
    events: Sequence[Mapping[str, Any]], root: Path, step: str | None = None
) -> SourceLocation | None:
    """The line of the bundle at ``root`` that raised the last exception in a run's log, or None.

    Args:
        step: the key of the step at which the run failed: the exception that its body raised is preferred, since the
            run's own names only the line that called the step.
    """
    raised = [event for event in events if event.get("exception")]
    of_step = [event for event in raised if step is not None and event.get("step") == step]
    return locate(str((of_step or raised)[-1]["exception"]), root) if raised else None


def locate(traceback: str, root: Path) -> SourceLocation | None:
    """The innermost frame of the last exception that is the bundle's own: neither a library's nor Autopilot's."""
    for file, line, function, code in reversed(_FRAME.findall(traceback)):
        path = root / file  # an absolute path stays as it is
        if path.is_relative_to(root) and not path.is_relative_to(_AUTOPILOT):
            below = path.relative_to(root)
            if not any(part == "site-packages" or part.startswith(".") for part in below.parts):
                return SourceLocation(below.as_posix(), int(line), function, code)
    return None
