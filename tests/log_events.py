"""What structlog was given, for tests that ask for it."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

Events = list[MutableMapping[str, Any]]


@pytest.fixture
def events() -> Iterator[Events]:
    with capture_logs() as captured:
        yield captured


def named(events: Events, name: str) -> list[dict[str, Any]]:
    """The fields of each event of this name."""
    return [
        {field: value for field, value in event.items() if field != "event"}
        for event in events
        if event["event"] == name
    ]
