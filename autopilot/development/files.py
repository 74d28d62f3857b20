"""The files of a bundle whose changes matter to what is served."""

from collections.abc import Iterator
from pathlib import Path

from watchfiles import Change, watch

from autopilot.errors import FunctionNotServed

_SUFFIXES = {".py", ".html", ".jinja", ".json", ".toml", ".yaml", ".yml"}
_SKIPPED = {"__pycache__", "node_modules", "terraform", "tests"}

_QUIET_MILLISECONDS = 100
"""Changes are reported once no more come within this: a checkout of many files is one change."""


def changes(root: Path, *, or_every_seconds: float) -> Iterator[list[str]]:
    """Yield the paths below ``root`` that changed, sorted; an empty list when there was no change for a while.

    Raises:
        FunctionNotServed: the operating system cannot watch so many folders.
    """
    found = watch(
        root,
        watch_filter=lambda change, path: matters(root, Path(path), change),
        step=_QUIET_MILLISECONDS,
        rust_timeout=int(or_every_seconds * 1000),
        yield_on_timeout=True,
    )
    try:
        for each in found:
            yield sorted(str(Path(path).relative_to(root)) for _, path in each)
    except OSError as error:
        raise FunctionNotServed(
            "dev", f"{root} cannot be watched: {error}; with WATCHFILES_FORCE_POLLING=1 its files are polled"
        ) from error


def matters(root: Path, path: Path, change: Change) -> bool:
    """Check whether a change is of a source, of data beside it, or of ``.env``; environments and tests are not.

    A folder that was added matters if it has such a file: those are not reported one by one.
    """
    if path.name == ".env":
        return path.parent == root
    below = path.relative_to(root)
    if any(part.startswith(".") or part in _SKIPPED for part in below.parts):
        return False
    if any((root / folder / "pyvenv.cfg").exists() for folder in below.parents[:-1]):
        return False
    if change is Change.added and path.is_dir() and not path.is_symlink():
        return any(matters(root, inner, change) for inner in path.iterdir())
    return path.suffix in _SUFFIXES
