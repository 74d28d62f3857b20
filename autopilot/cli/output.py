"""What the command says: its answer on standard output, and everything about it on standard error."""

import json
import sys
from typing import Any, TextIO

from pydantic import BaseModel
from pydantic_core import to_jsonable_python


def print_json(value: Any) -> None:
    """Print the answer of ``--json``: a model, or JSON with models in it."""
    if isinstance(value, BaseModel):
        print_line(value.model_dump_json(indent=2))
    else:
        print_line(json.dumps(value, indent=2, default=to_jsonable_python))


def print_line(text: str) -> None:
    """Print a line of the answer, as it is: nothing in it is markup."""
    _write(text, sys.stdout)


def print_aside(text: str) -> None:
    """Print a line that is not the answer: what went wrong, or what is beside it."""
    _write(text, sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    print(text, file=stream)
