"""Files of this machine that hold payloads, results and logs: readable by their owner alone."""

import os
from contextlib import suppress
from pathlib import Path

OWN_FOLDER = ".autopilot"
"""The folder that is Autopilot's own, in which files that others may read are made private too."""

_OTHERS = 0o077


def prepare_folder(file: Path) -> None:
    """Make the folders of ``file``, each for its owner alone; an own folder that others can enter is closed to them.

    Whatever stands in the way is left there: opening the file says what is wrong with it.
    """
    for folder in (*reversed(file.parent.parents), file.parent):
        if not folder.exists():
            with suppress(FileExistsError):  # another process was faster
                folder.mkdir(mode=0o700)
    if file.parent.name == OWN_FOLDER:
        _close(file.parent)


def prepare_file(file: Path) -> None:
    """Make an empty ``file`` and its folders, each for its owner alone, unless it is there.

    Raises:
        OSError: it cannot be made.
    """
    prepare_folder(file)
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    close_to_others(file, is_new=False)


def close_to_others(file: Path, *, is_new: bool) -> None:
    """Keep others from a file that was just made, and in an own folder from any, those that SQLite keeps beside it too."""
    if file.parent.name == OWN_FOLDER:
        for each in (file, *file.parent.glob(f"{file.name}-*")):
            _close(each)
    elif is_new:
        _close(file)


def _close(path: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):  # removed just now; or another user's, who decides
        if (mode := path.stat().st_mode) & _OTHERS:
            path.chmod(mode & ~_OTHERS & 0o7777)
