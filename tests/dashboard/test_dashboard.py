"""The dashboard in a real browser."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from autopilot.core.run_log import process_store
from tests.dashboard.conftest import Witness
from tests.dashboard.past import write_past
from tests.dashboard.site import Site
from tests.dashboard.workflows import Convoy, Invoice
from tests.http_workflows import Parcel

pytestmark = pytest.mark.slow


def start(site: Site, workflow: str, payload: dict[str, Any]) -> str:
    """Start a run as a program does; gives its id."""
    answer = httpx.post(
        f"{site.url}/api/v1/workflows/{workflow}/trigger", json=payload, headers={"Prefer": "wait=1"}, timeout=20
    )
    run_id: str = answer.json()["run_id"]
    return run_id


def test_a_run_is_watched_live_from_start_to_finish(page: Page, site: Site) -> None:
    page.goto("/workflows/convoy/trigger")
    page.get_by_label("Payload").fill('{"mules": 12}')
    page.get_by_role("button", name="Start the run").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Running")
    timeline = page.get_by_role("region", name="Timeline")
    expect(timeline.get_by_text("leave the valley", exact=True)).to_be_visible()
    expect(timeline.get_by_text("In progress")).to_be_visible()
    expect(timeline.get_by_text("reach the plain", exact=True)).to_have_count(0)

    site.set(Convoy.may_go_on)

    expect(page.get_by_role("heading", level=1)).to_have_text("Success")
    expect(timeline.get_by_text("reach the plain", exact=True)).to_be_visible()
    expect(timeline.get_by_text("In progress")).to_have_count(0)
    expect(page.get_by_role("region", name="Result")).to_contain_text("arrived")
    expect(page.locator("#announcer")).to_have_text("Run success")


def test_a_failed_run_is_understood_retried_in_the_page_and_completes(page: Page, site: Site) -> None:
    Invoice.ledger_is_down = True
    run_id = start(site, "invoice", {"customer": "Ada"})
    page.goto("/")
    page.get_by_role("region", name="Needs attention").get_by_role("link").first.click()
    assert page.url.endswith(run_id)
    failure = page.get_by_role("region", name="Failed at step book in ledger")
    expect(failure).to_contain_text("refused the connection")
    expect(failure).to_contain_text("Raised at functions/invoice.py:60 in _book")

    Invoice.ledger_is_down = False
    page.get_by_role("button", name="Retry").click()
    dialog = page.get_by_role("dialog", name="Retry this run?")
    expect(dialog).to_contain_text("Runs again: book in ledger.")
    dialog.get_by_role("button", name="Retry").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Success")
    assert run_id in page.url
    expect(page.get_by_text("Attempt 2", exact=False).first).to_be_visible()
    expect(page.get_by_role("region", name="Result")).to_contain_text("entry-119")


def test_an_interrupted_step_runs_again_only_after_its_box_is_ticked(page: Page, site: Site) -> None:
    page.goto(f"/workflows/parcel/runs/{an_interrupted_run(site)}")
    page.get_by_role("button", name="Retry").click()
    dialog = page.get_by_role("dialog", name="Retry this run?")

    dialog.get_by_role("button", name="Retry").click()
    expect(dialog.get_by_role("group", name="Check first whether this step took effect")).to_be_visible()
    expect(dialog.get_by_role("checkbox")).to_be_focused()
    assert Parcel.begun == []
    dialog.get_by_role("checkbox", name="Run send[a/b] again").check()
    dialog.get_by_role("button", name="Retry").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Success")
    assert Parcel.begun == ["send"]


def test_an_unconfirmed_retry_comes_back_with_its_dialog(page: Page, site: Site, witness: Witness) -> None:
    page.goto(f"/workflows/parcel/runs/{an_interrupted_run(site)}")
    page.get_by_role("button", name="Retry").click()
    dialog = page.get_by_role("dialog", name="Retry this run?")
    dialog.locator("form").evaluate("form => form.noValidate = true")

    dialog.get_by_role("button", name="Retry").click()

    expect(page.locator(".notice.bad")).to_contain_text("a step may already have taken effect")
    assert dialog.evaluate("dialog => dialog.matches(':modal')")
    dialog.get_by_role("checkbox").check()
    dialog.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Success")
    witness.complaints.clear()  # a 409 is on the console


def test_a_run_is_retried_without_scripts(browser: Browser, site: Site) -> None:
    context = browser.new_context(base_url=site.url, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/workflows/parcel/runs/{an_interrupted_run(site)}")
    page.get_by_role("button", name="Retry").click()
    dialog = page.get_by_role("dialog", name="Retry this run?")
    dialog.get_by_role("button", name="Back").click()
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Retry").click()
    dialog.get_by_role("checkbox").check()
    dialog.get_by_role("button", name="Retry").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Success")
    context.close()


def an_interrupted_run(site: Site) -> str:
    """A run of ``parcel`` whose step ``send`` was interrupted and would succeed now; its id."""
    Parcel.courier_is_late = True
    run_id = start(site, "parcel", {"to": "a/b"})
    Parcel.courier_is_late = False
    Parcel.begun.clear()
    return run_id


def test_faults_stand_at_their_fields_and_the_rest_stays_filled_in(page: Page, witness: Witness) -> None:
    page.goto("/workflows/invoice")
    page.get_by_role("link", name="Trigger a run").click()
    page.get_by_label("Customer").fill("Ada")
    page.get_by_label("Notes").fill("{")
    page.get_by_label("Notes").evaluate("area => area.setCustomValidity('')")
    page.get_by_label("Copies To").fill("a@example.com\nb@example.com")
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_text("Not valid JSON")).to_be_visible()
    expect(page.get_by_label("Customer")).to_have_value("Ada")
    witness.complaints.clear()  # a 422 is told on the console


def test_a_filled_in_form_becomes_the_payload(page: Page) -> None:
    page.goto("/workflows/invoice/trigger")
    page.get_by_label("Customer").fill("Ada")
    page.get_by_label("Copies To").fill("a@example.com\nb@example.com")
    page.get_by_label("Region").select_option("south")
    page.get_by_label("Urgent").check()
    page.get_by_role("button", name="Start the run").click()

    payload = page.get_by_role("region", name="Payload")
    for told in ('"Ada"', '"b@example.com"', '"south"', '"urgent": true', '"amount": 100'):
        expect(payload).to_contain_text(told)


def test_a_run_is_run_again_and_leads_back_to_the_first(page: Page, site: Site) -> None:
    run_id = start(site, "invoice", {"customer": "Ada"})
    page.goto(f"/workflows/invoice/runs/{run_id}")
    page.get_by_role("button", name="Rerun", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Rerun").click()

    page.get_by_role("link", name=run_id[:12]).click()

    expect(page.get_by_text(run_id).first).to_be_visible()


def test_a_run_is_cancelled_in_the_page(page: Page, site: Site) -> None:
    run_id = start(site, "convoy", {})
    page.goto(f"/workflows/convoy/runs/{run_id}")

    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Cancelled")
    site.set(Convoy.may_go_on)


def test_a_run_that_is_removed_while_it_is_looked_at_says_so(page: Page, site: Site, witness: Witness) -> None:
    run_id = start(site, "convoy", {})
    page.goto(f"/workflows/convoy/runs/{run_id}")
    site.set(Convoy.may_go_on)
    expect(page.get_by_role("heading", level=1)).to_have_text("Success")

    httpx.delete(f"{site.url}/api/v1/workflows/convoy/runs/{run_id}").raise_for_status()
    page.evaluate("refresh()")

    expect(page.get_by_role("alert")).to_contain_text("This run was deleted")
    witness.complaints.clear()  # a 404 is told on the console


def test_of_two_people_who_retry_a_run_the_second_is_told(page: Page, site: Site, witness: Witness) -> None:
    Invoice.ledger_is_down = True
    run_id = start(site, "invoice", {"customer": "Ada"})
    page.goto(f"/workflows/invoice/runs/{run_id}")
    page.get_by_role("button", name="Retry").click()
    Invoice.ledger_is_down = False
    httpx.post(f"{site.url}/api/v1/workflows/invoice/runs/{run_id}/retry").raise_for_status()

    page.get_by_role("dialog").get_by_role("button", name="Retry").click()

    expect(page.get_by_role("alert")).to_contain_text("it cannot be retried")
    expect(page.get_by_role("heading", level=1)).to_have_text("Success")
    witness.complaints.clear()  # a 409 is told on the console


def test_a_new_run_appears_on_the_first_page_by_itself(page: Page, site: Site) -> None:
    page.goto("/")
    card = page.get_by_role("article", name="convoy")
    expect(card).to_contain_text("No runs yet")
    expect(page.locator("#live")).to_have_text("live")

    start(site, "convoy", {})

    expect(card).to_contain_text("running")
    site.set(Convoy.may_go_on)
    expect(card).to_contain_text("success")


def test_filters_live_in_the_url_and_pages_lead_on(page: Page, site: Site) -> None:
    site.call(write_past(process_store()))
    page.goto("/workflows/invoice?window=30d")
    page.get_by_role("combobox", name="Trigger").select_option("schedule")
    page.get_by_role("button", name="Filter").click()

    assert "trigger=schedule" in page.url
    assert "window=30d" in page.url
    first = page.locator("tbody tr").first.inner_text()
    page.get_by_role("link", name="Older runs").click()
    assert page.locator("tbody tr").first.inner_text() != first
    page.get_by_role("link", name="Newest").click()
    assert page.locator("tbody tr").first.locator("code").inner_text() in first


def test_everything_can_be_done_with_the_keyboard(page: Page, site: Site) -> None:
    Invoice.ledger_is_down = True
    run_id = start(site, "invoice", {"customer": "Ada"})
    page.goto(f"/workflows/invoice/runs/{run_id}")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    tab_to(page, "Retry")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Retry")).to_be_focused()
    tab_to(page, "find customer")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Result of find customer")).to_be_visible()


def tab_to(page: Page, name: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if name in str(page.evaluate("document.activeElement.innerText")):
            return
    pytest.fail(f"the keyboard does not reach {name!r}")


def test_hostile_text_is_shown_and_nothing_of_it_is_run(page: Page, site: Site) -> None:
    script = "<script>document.title='taken over'</script><img src=x onerror=\"document.title='taken over'\">"
    run_id = start(site, "hostile", {"x": script, "fail": True})

    for path in ("/", "/runs", "/workflows/hostile", "/workflows/hostile/trigger", f"/workflows/hostile/runs/{run_id}"):
        page.goto(path)
        page.wait_for_load_state("load")
        assert "taken over" not in page.title().replace("<script>document.title = 'taken over'</script>", "")
        assert page.locator("main script, main img").count() == 0
    expect(page.get_by_role("region", name="Payload")).to_contain_text(script[:30])


def test_the_exact_time_is_on_hover_and_relative_times_move_on(page: Page, site: Site) -> None:
    run_id = start(site, "invoice", {"customer": "Ada"})
    page.goto(f"/workflows/invoice/runs/{run_id}")
    time = page.locator("time").first

    assert str(time.get_attribute("title")).endswith(" UTC")
    time.evaluate("time => { time.dateTime = '2020-01-01T00:00:00Z'; refreshTimes(); }")

    expect(time).to_contain_text(" d ago")
