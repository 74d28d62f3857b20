"""What every store promises of sessions that are signed out."""

from datetime import timedelta

from autopilot.core.store import Store
from tests.journal import LONG_HENCE

SESSION, OTHER = "a" * 64, "b" * 64


async def test_a_session_has_ended_once_it_was_signed_out(store: Store) -> None:
    assert not await store.has_ended(SESSION)

    await store.end_session(SESSION, expires_at=LONG_HENCE)
    await store.end_session(SESSION, expires_at=LONG_HENCE + timedelta(hours=1))

    assert await store.has_ended(SESSION)
    assert not await store.has_ended(OTHER)
