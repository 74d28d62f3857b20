from pathlib import Path

import pytest

import autopilot
from autopilot.api.tracebacks import SourceLocation, locate, locate_last_error

ROOT = Path("/bundle")
OURS = Path(autopilot.__file__).parent


def trace(*frames: tuple[str, int, str]) -> str:
    lines = [f'  File "{file}", line {line}, in {function}\n    {function}()\n' for file, line, function in frames]
    return f"Traceback (most recent call last):\n{''.join(lines)}ValueError: no\n"


@pytest.mark.parametrize(
    "inner",
    (
        "/usr/lib/python3.11/json/decoder.py",
        "/bundle/.venv/lib/python3.11/site-packages/httpx/_client.py",
        "/bundle/env/lib/python3.11/site-packages/httpx/_client.py",
        f"{OURS}/core/attempt.py",
    ),
)
def test_the_place_is_the_innermost_line_of_the_bundles_own(inner: str) -> None:
    told = trace((f"{OURS}/context.py", 1, "step"), ("/bundle/functions/shop.py", 7, "charge"), (inner, 9, "get"))

    assert locate(told, ROOT) == SourceLocation("functions/shop.py", 7, "charge", "charge()")


def test_of_several_exceptions_the_last_one_counts() -> None:
    told = trace(("/bundle/a.py", 1, "first")) + "\nDuring handling of it:\n\n" + trace(("/bundle/b.py", 2, "second"))

    place = locate(told, ROOT)

    assert place is not None
    assert (place.file, place.line) == ("b.py", 2)


def test_a_group_of_exceptions_is_read_too() -> None:
    told = '  + Exception Group Traceback (most recent call last):\n  |   File "/bundle/a.py", line 3, in both\n  |     wait()\n'

    assert locate(told, ROOT) == SourceLocation("a.py", 3, "both", "wait()")


def test_a_trace_without_a_line_of_the_bundle_names_no_place() -> None:
    assert locate(trace((f"{OURS}/context.py", 1, "step")), ROOT) is None
    assert locate("", ROOT) is None


def test_the_line_of_the_step_that_failed_counts_before_the_line_that_called_it() -> None:
    body, other = trace(("/bundle/a.py", 1, "charge")), trace(("/bundle/a.py", 2, "warn"))
    events = [
        {"event": "step_failed", "step": "charge", "exception": body},
        {"event": "step_failed", "step": "warn", "exception": other},
        {"event": "workflow_run_completed", "exception": trace(("/bundle/a.py", 9, "execute"))},
    ]

    places = [locate_last_error(events, ROOT, step) for step in ("charge", "warn", "unlogged", None)]

    assert [place and place.line for place in places] == [1, 2, 9, 9]
    assert locate_last_error([{"event": "step_failed", "step": "charge"}], ROOT, "charge") is None
