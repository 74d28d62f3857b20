"""The files of a bundle whose changes matter to what is served."""

import os
from pathlib import Path

_SUFFIXES = (".py", ".html", ".jinja", ".json", ".toml", ".yaml", ".yml")
_SKIPPED = {"__pycache__", "node_modules", "terraform", "tests"}

FileTimes = dict[str, int]
"""When each file was last written, in nanoseconds."""


def file_times(root: Path) -> FileTimes:
    """What there is now: sources, data beside them, and ``.env``; no environments, tests or hidden folders."""
    times: FileTimes = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if _is_watched(folder, name)]
        for name in files:
            if name.endswith(_SUFFIXES) or name == ".env":
                path = f"{folder}{os.sep}{name}"
                try:
                    times[path] = os.stat(path).st_mtime_ns  # noqa: PTH116 - many files, again and again
                except FileNotFoundError:  # gone since it was listed
                    continue
    return times


def changed(before: FileTimes, now: FileTimes) -> list[str]:
    """The paths that were written, added or removed."""
    return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))


def _is_watched(folder: str, name: str) -> bool:
    if name.startswith(".") or name in _SKIPPED:
        return False
    return not Path(folder, name, "pyvenv.cfg").exists()
