"""The functions of workflows in this process, each at an address of its own: what the API calls in tests."""

import asyncio
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import httpx
from functions_framework.aio import create_asgi_app_from_module

from autopilot import entry_point


def function_app(workflow_path: str) -> Any:
    """A workflow's function inside functions-framework's own application."""
    main = ModuleType("main")
    main.__dict__["served"] = entry_point(workflow_path, name="served")
    return create_asgi_app_from_module("served", "main.py", "http", main, None)  # type: ignore[no-untyped-call]


class FunctionsTransport(httpx.AsyncBaseTransport):
    """Sends a request to the function whose workflow is the request's host.

    A function is a process of its own: it finishes what it has begun, whether or not its caller is still there.
    """

    def __init__(self, workflow_paths: Mapping[str, str]) -> None:
        self._apps = {
            # A name of a host has no underscore to httpx.
            host_of(name): httpx.ASGITransport(function_app(path), raise_app_exceptions=False)
            for name, path in workflow_paths.items()
        }
        self.requests: list[httpx.Request] = []
        self.working: set[asyncio.Task[httpx.Response]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        headers = httpx.Headers(request.headers)
        headers["host"] = "localhost"  # as it is where they are served on one machine
        served = httpx.Request(request.method, request.url, headers=headers, stream=request.stream)
        work = asyncio.create_task(self._apps[request.url.host].handle_async_request(served))
        self.working.add(work)
        work.add_done_callback(self.working.discard)
        return await asyncio.shield(work)

    async def finish(self) -> None:
        """Wait until every function has answered."""
        await asyncio.gather(*self.working)


def host_of(workflow: str) -> str:
    return workflow.replace("_", "-")
