"""Signing in, and a store that is away: in a real browser."""

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Witness, serious_findings
from tests.dashboard.test_views import picture
from tests.functions_in_process import BrokenStore

pytestmark = pytest.mark.slow

KEY = "correct horse battery"


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPILOT_API_KEY", KEY)
    monkeypatch.setenv("AUTOPILOT_ENVIRONMENT", "production")


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_who_knows_the_key_signs_in_and_gets_where_they_wanted(page: Page, witness: Witness, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto("/runs?status=failed")
    expect(page.get_by_label("Key")).to_be_focused()
    assert serious_findings(page) == []
    picture(page, f"sign-in-{scheme}")
    page.get_by_label("Key").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("That is not the key.")

    page.get_by_label("Key").fill(KEY)
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
    assert page.url.endswith("/runs?status=failed")
    expect(page.locator("#live")).to_have_text("live")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    witness.complaints.clear()  # a 401 is told on the console


def test_a_page_says_that_the_store_is_away_and_comes_back_with_it(
    broken_store: BrokenStore, page: Page, witness: Witness
) -> None:
    broken_store.away = {"list_runs", "get_stats", "find_runs", "get_activity"}
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("The store does not answer")
    assert serious_findings(page) == []
    picture(page, "store-away")

    broken_store.away = set()

    expect(page.get_by_role("heading", level=1)).to_have_text("Workflows", timeout=15_000)
    witness.complaints.clear()  # a 503 is told on the console
