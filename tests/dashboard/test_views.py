"""Every view, light and dark, wide and narrow: usable by everyone, no wider than the screen, and pictured.

The pictures are written to ``screenshots/``, to be looked at.
"""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from autopilot.core.run_log import process_store
from autopilot.core.runs.identity import run_id_of
from tests.dashboard.conftest import Witness, serious_findings
from tests.dashboard.past import write_past
from tests.dashboard.site import Site
from tests.dashboard.test_dashboard import start
from tests.dashboard.workflows import Convoy, Invoice
from tests.http_workflows import Parcel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SCREENSHOTS = Path(__file__).parent.parent.parent / "screenshots"
SIZES = {"desktop": (1280, 800), "phone": (360, 740)}


def views(site: Site) -> dict[str, str]:
    """The address of every view, over a past that has everything to show."""
    site.call(write_past(process_store()))
    succeeded = start(site, "invoice", {"customer": "Grace"})
    Invoice.ledger_is_down = True
    failed = start(site, "invoice", {"customer": "Ada", "copies_to": ["ada@example.com"]})
    hostile = start(site, "hostile", {"fail": True, "x": "<script>"})
    Parcel.card_is_declined = True
    compensated = start(site, "parcel", {})
    Parcel.card_is_declined, Parcel.courier_is_late = False, True
    interrupted = start(site, "parcel", {"to": "https://example.com/parcels/counter?at=north"})
    running = start(site, "convoy", {"mules": 12})
    return {
        "overview": "/",
        "workflow": "/workflows/invoice?window=30d",
        "workflow-empty": "/workflows/quiet",
        "runs": "/runs",
        "runs-none-fit": "/runs?status=paused",
        "run-success": f"/workflows/invoice/runs/{succeeded}",
        "run-failed": f"/workflows/invoice/runs/{failed}",
        "run-running": f"/workflows/convoy/runs/{running}",
        "run-compensated": f"/workflows/parcel/runs/{compensated}",
        "run-interrupted": f"/workflows/parcel/runs/{interrupted}",
        "step-tries": f"/workflows/parcel/runs/{compensated}/step?key=charge",
        "run-hostile": f"/workflows/hostile/runs/{hostile}",
        "step": f"/workflows/invoice/runs/{succeeded}/step?key=find%20customer",
        "trigger": "/workflows/invoice/trigger",
        "trigger-json": "/workflows/invoice/trigger?as=json",
        "missing": "/workflows/nope",
        "undefined-workflow": "/workflows/retired",
        "undefined-run": f"/workflows/retired/runs/{run_id_of('retired', '0')}",
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_every_view_is_usable_by_everyone(
    browser: Browser, site: Site, witness: Witness, scheme: str, size: str
) -> None:
    width, height = SIZES[size]
    context = browser.new_context(
        base_url=site.url,
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    witness.watch(context, urlsplit(site.url).netloc)
    page = context.new_page()
    faults: dict[str, list[str]] = {}
    for name, address in views(site).items():
        page.goto(address)
        faults[name] = look(page, width)
        picture(page, f"{name}-{size}-{scheme}")
        if name in {"run-compensated", "run-interrupted"}:
            page.get_by_role("button", name="Retry").click()
            faults[f"{name}-retry"] = look(page, width)
            picture(page, f"{name}-retry-{size}-{scheme}")
    site.set(Convoy.may_go_on)
    context.close()

    assert {name: found for name, found in faults.items() if found} == {}
    witness.complaints = [each for each in witness.complaints if "404" not in each]


def look(page: Page, width: int) -> list[str]:
    found = serious_findings(page)
    if (needed := page.evaluate("document.documentElement.scrollWidth")) > width:
        found.append(f"it is {needed} wide")
    return found


def picture(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
