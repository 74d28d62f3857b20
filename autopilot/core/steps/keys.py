"""What a step is called: names, keys and scopes.

A step's full key is its name, with its own key if it has one, behind that of the step or item it is part of:
``check``, ``quote[3]``, ``quote[3]/ask``. Keys and not positions: adding, moving or removing a step leaves what older
runs recorded readable.
"""

import hashlib
import re
from urllib.parse import quote, unquote

from autopilot.errors import StepNameInvalid

MAX_KEY_BYTES = 1500
"""UTF-8 bytes of a step's own key."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.:-]{0,99}")
_MAX_FULL_KEY = 16 * 1024
_RESERVED = "~"
"""Begins the keys of records that are kept beside the steps and are none; no step's name can."""

RETRY_KEY = f"{_RESERVED}retry"
"""The key of the record of a run's rounds: see :class:`autopilot.core.steps.records.Rounds`."""


def full_key(scope: str, name: str, key: str | int | None) -> str:
    """The full key of a step that is part of the step ``scope``; of none, if that is empty.

    Different names and keys have different full keys: what would end a name, key or scope is escaped in them.

    Raises:
        StepNameInvalid: the name or key cannot be used.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        shown = repr(name)[:80]
        raise StepNameInvalid(shown, f"a name is 1 to 100 letters, digits, spaces or any of _.:- ({_NAME.pattern})")
    own = name if key is None else f"{name}[{_escaped(name, key)}]"
    full = f"{scope}/{own}" if scope else own
    if len(full) > _MAX_FULL_KEY:
        raise StepNameInvalid(own[:200], f"nested too deeply: its full key is over {_MAX_FULL_KEY:,} characters")
    return full


def _escaped(name: str, key: str | int) -> str:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise StepNameInvalid(name, f"key must be a string or an integer, not {type(key).__name__}")
    text = str(key)
    size = len(text.encode(errors="surrogatepass"))
    if not 1 <= size <= MAX_KEY_BYTES:
        raise StepNameInvalid(name, f"key must have 1 to {MAX_KEY_BYTES:,} bytes of UTF-8, not {size:,}")
    return quote(text, safe=" !\"#$&'()*+,-.:;<=>?@\\^_`{|}~", errors="surrogatepass")


def readable_key(key: str) -> str:
    """A full key as people read it: ``fetch[https://example.com/a]``, in which nothing is escaped."""
    return unquote(key, errors="backslashreplace")


def key_digest(key: str) -> str:
    """24 hexadecimal digits that stand for a full key, however long it is."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:24]


def is_step(key: str) -> bool:
    """Whether a record with this key is a step's, and not one that the engine keeps beside the steps."""
    return not key.startswith(_RESERVED)


def is_within(key: str) -> bool:
    """Whether a full key is that of a step within another step or an item."""
    return "/" in key
