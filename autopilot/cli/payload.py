"""Payloads as they are typed."""

import json
from typing import NoReturn

_URL = "{url}"


class PayloadTextInvalid(ValueError):
    """The text is not a JSON object; the message says where."""


def payload_from(text: str, *, url: str) -> bytes:
    """The body of the request for a payload that was typed; nothing typed is no body.

    ``{url}`` in the text stands for the address at which the function is served.

    Raises:
        PayloadTextInvalid: it is not a JSON object.
    """
    text = text.replace(_URL, url)
    if not text.strip():
        return b""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        body = text.encode()
    except json.JSONDecodeError as error:
        raise PayloadTextInvalid(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeEncodeError:
        raise PayloadTextInvalid("not UTF-8") from None
    except RecursionError:
        raise PayloadTextInvalid("nested too deeply") from None
    if not isinstance(value, dict):
        raise PayloadTextInvalid(f'it must be a JSON object, as in \'{{"key": "value"}}\', not {_kind(value)}')
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise PayloadTextInvalid(f"not JSON: {name} is no JSON number")


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    return {list: "an array", str: "a string", int: "a number", float: "a number"}.get(type(value), "null")
