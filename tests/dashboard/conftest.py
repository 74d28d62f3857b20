import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from autopilot.core.store import Store
from tests.dashboard.site import Site

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not for the session: while Playwright is open, an event loop runs in this thread, and no other can.
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no chromium; on Debian: apt install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def site(default_store: Store) -> Iterator[Site]:
    with Site().served() as site:
        yield site


@dataclass
class Witness:
    """What a browser did beside showing pages."""

    foreign_requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext, host: str) -> None:
        def see(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                self.complaints.append(message.text)

        context.on("console", see)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", lambda request: self._see_request(request.url, host))

    def _see_request(self, url: str, host: str) -> None:
        if urlsplit(url).netloc != host and urlsplit(url).scheme != "data":
            self.foreign_requests.append(url)


@pytest.fixture
def witness() -> Iterator[Witness]:
    """Afterwards: nothing was asked of another host, and the console is empty."""
    witness = Witness()
    yield witness
    assert witness.foreign_requests == []
    assert witness.complaints == []


@pytest.fixture
def page(browser: Browser, site: Site, witness: Witness) -> Iterator[Page]:
    context = browser.new_context(base_url=site.url, viewport={"width": 1280, "height": 800})
    witness.watch(context, urlsplit(site.url).netloc)
    page = context.new_page()
    page.set_default_timeout(10_000)
    yield page
    context.close()


def axe_script() -> str:
    import axe_playwright_python

    (folder,) = axe_playwright_python.__path__
    return (Path(folder) / "axe.min.js").read_text()


def serious_findings(page: Page) -> list[str]:
    """What axe finds on the page that keeps people from using it."""
    page.evaluate(axe_script())
    found: dict[str, Any] = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{finding['id']}: {finding['help']}: {[node['html'][:200] for node in finding['nodes'][:3]]}"
        for finding in found["violations"]
        if finding["impact"] in {"serious", "critical"}
    ]
