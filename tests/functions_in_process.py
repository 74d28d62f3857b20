"""Registered functions inside functions-framework's own application, without a server around it."""

import asyncio
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, cast

import httpx
import pytest
from functions_framework.aio import create_asgi_app_from_module

from autopilot import entry_point
from autopilot.core.run_log import use_store
from autopilot.core.store import Store
from autopilot.errors import StoreUnavailable

Serve = Callable[[str], httpx.AsyncClient]


@pytest.fixture
def serve() -> Serve:
    """A client of a new instance of a function: of a class in tests.http_workflows, or of ``module:Class``."""

    def serve(class_name: str) -> httpx.AsyncClient:
        main = ModuleType("main")
        path = class_name if ":" in class_name else f"tests.http_workflows:{class_name}"
        main.__dict__["served"] = entry_point(path, name="served")
        app: Any = create_asgi_app_from_module("served", "main.py", "http", main, None)  # type: ignore[no-untyped-call]
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    return serve


@pytest.fixture
def shop(serve: Serve) -> httpx.AsyncClient:
    return serve("Shop")


@pytest.fixture
def echo(serve: Serve) -> httpx.AsyncClient:
    return serve("Echo")


class BrokenStore:
    """The process's store, with some of its methods away or hanging."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away: set[str] = set()
        self.hanging: set[str] = set()
        self.while_hanging: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        async def away(*_: Any, **__: Any) -> None:
            raise StoreUnavailable("test", name, "away")

        async def hang(*_: Any, **__: Any) -> None:
            self.while_hanging()
            await asyncio.Event().wait()

        if name in self.hanging:
            return hang
        return away if name in self.away else getattr(self._store, name)


@pytest.fixture
def broken_store(default_store: Store) -> Iterator[BrokenStore]:
    broken = BrokenStore(default_store)
    with use_store(cast("Store", broken)):
        yield broken


def assert_error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The one shape of errors, and no run."""
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message", "details"}
    assert "Traceback" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)
    error: dict[str, Any] = answer.json()["error"]
    return error


async def total(client: httpx.AsyncClient) -> int:
    described: int = (await client.get("/")).json()["total_runs"]
    return described
