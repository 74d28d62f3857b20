"""What a step is called: names, keys and scopes.

A step's full key is its name, with its own key if it has one, behind that of the step or item it is part of:
``check``, ``quote[3]``, ``quote[3]/ask``. Keys and not positions: adding, moving or removing a step leaves what older
runs recorded readable.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import quote

from autopilot.errors import StepNameInvalid, StepNameReused

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.:-]{0,99}")
_MAX_KEY = 200
_MAX_FULL_KEY = 1000

_scope: ContextVar[str] = ContextVar("autopilot_step_scope", default="")


def full_key(name: str, key: str | int | None) -> str:
    """The full key of a step in the current scope.

    Raises:
        StepNameInvalid: the name or key cannot be used.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        shown = repr(name)[:80]
        raise StepNameInvalid(shown, f"a name is 1 to 100 letters, digits, spaces or any of _.:- ({_NAME.pattern})")
    own = name if key is None else f"{name}[{_own_key(name, key)}]"
    full = f"{_scope.get()}/{own}" if _scope.get() else own
    if len(full) > _MAX_FULL_KEY:
        raise StepNameInvalid(own, f"nested too deeply: its full key is over {_MAX_FULL_KEY} characters")
    return full


def _own_key(name: str, key: str | int) -> str:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise StepNameInvalid(name, f"key must be a string or an integer, not {type(key).__name__}")
    text = str(key)
    if not 1 <= len(text) <= _MAX_KEY:
        raise StepNameInvalid(name, f"key must have 1 to {_MAX_KEY} characters")
    return quote(text, safe=" _.:-", errors="backslashreplace")


@contextmanager
def inside(key: str) -> Iterator[None]:
    """Within this, steps are part of the step ``key``; with an empty one, of none: where a run begins."""
    token = _scope.set(key)
    try:
        yield
    finally:
        _scope.reset(token)


def current_step() -> str | None:
    """The full key of the step whose body is running here, or None."""
    return _scope.get() or None


class UsedKeys:
    """The keys that one execution has used: each at most once."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def use(self, key: str) -> str:
        """Use ``key``, and return it.

        Raises:
            StepNameReused: it was used before.
        """
        if key in self._used:
            raise StepNameReused(key)
        self._used.add(key)
        return key

    def release_inside(self, key: str) -> None:
        """The body of the step ``key`` begins again: the keys of the steps in it are free."""
        self._used = {used for used in self._used if not used.startswith(f"{key}/")}
