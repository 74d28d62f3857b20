"""Size limits of a run, checked in one place for every store.

Together the limits keep a run's document under Firestore's 1 MiB (firebase.google.com/docs/firestore/quotas), with
room for its other fields. Sizes are bytes of UTF-8.
"""

import json
from typing import Any

from autopilot.errors import PayloadTooLarge, ResultInvalid, ResultTooLarge
from autopilot.text import without_input_values

PAYLOAD_LIMIT = 256 * 1024
RESULT_LIMIT = 384 * 1024
ERROR_LIMIT = 8 * 1024

PAGE_LIMIT = 1000
"""Runs in one page of a list."""

_CUT = "\n... [cut: {size:,} bytes in all]"


def json_text(value: Any) -> str:
    """``value`` as compact JSON, the form in which payloads and results are stored.

    Text and not a database's own maps: Firestore's refuse nested arrays, some keys and large integers.

    Raises:
        ValueError: not JSON; the message names the reason.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a string in it is not valid Unicode (a lone surrogate)") from None
    except TypeError as error:
        raise ValueError(str(error)) from error
    return text


def payload_text(payload: Any) -> str:
    """The payload's JSON.

    Raises:
        PayloadTooLarge: it is over :data:`PAYLOAD_LIMIT`.
    """
    text = json_text(payload)
    if (size := len(text.encode())) > PAYLOAD_LIMIT:
        raise PayloadTooLarge(size, PAYLOAD_LIMIT)
    return text


def result_text(result: Any) -> str:
    """The result's JSON.

    Raises:
        ResultInvalid: it is not JSON.
        ResultTooLarge: it is over :data:`RESULT_LIMIT`.
    """
    try:
        text = json_text(result)
    except ValueError as error:
        raise ResultInvalid(str(error)) from error
    check_result_size(text)
    return text


def check_result_size(text: str) -> None:
    """Refuse a result's JSON that is too large.

    Raises:
        ResultTooLarge: it is over :data:`RESULT_LIMIT`.
    """
    if (size := len(text.encode())) > RESULT_LIMIT:
        raise ResultTooLarge(size, RESULT_LIMIT)


def text_of(error: BaseException) -> str:
    """The message of an error, even of one whose ``__str__`` raises; without the input values of pydantic's errors.

    What a workflow validates can be secret, and the message is recorded, logged and shown.
    """
    try:
        return without_input_values("".join((str(error),)))  # a string, and not a string of a class of its own
    except BaseException as failure:  # noqa: BLE001 - the run boundary: whatever a workflow raises can be recorded
        return f"(its message cannot be read: {type(failure).__name__})"


def cut_error(text: str, limit: int = ERROR_LIMIT) -> str:
    """``text`` within ``limit`` bytes of UTF-8; a cut is marked with the size it had. Always valid Unicode."""
    encoded = text.encode(errors="backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode()
    mark = _CUT.format(size=len(encoded))
    return encoded[: limit - len(mark.encode())].decode(errors="ignore") + mark


def check_page_size(limit: int) -> None:
    """Raise unless 1 <= limit <= :data:`PAGE_LIMIT`.

    Raises:
        ValueError: ``limit`` is not 1 to :data:`PAGE_LIMIT`.
    """
    if not 1 <= limit <= PAGE_LIMIT:
        raise ValueError(f"limit: it must be 1 to {PAGE_LIMIT:,}, not {limit}")
