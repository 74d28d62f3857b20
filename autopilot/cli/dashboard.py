"""``autopilot dashboard``: the dashboard in a browser."""

import socket
from contextlib import suppress
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import typer
import uvicorn
from pydantic import ValidationError
from rich.console import Console

from autopilot.api.schemas import ErrorAnswer, HealthReport
from autopilot.cli.addresses import checked_url
from autopilot.cli.exits import ExitCode, fail, interruptible, told
from autopilot.cli.options import UrlOption, caller_headers
from autopilot.cli.proxy import CredentialedProxy
from autopilot.loopback import LOOPBACK, PortUnavailable, listen


def dashboard(
    *,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Of `autopilot dev`; or of the proxy, with --url.")
    ] = 8080,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    url: UrlOption = None,
) -> None:
    """Open the dashboard: of `autopilot dev`, or with --url of a deployed API, through an authenticated local proxy."""
    console = Console(highlight=False, soft_wrap=True)
    here = f"http://{LOOPBACK}:{port}/"
    if not url:
        _require_dev(port)
        console.print(f"The dashboard is at {here}")
        if browser:
            typer.launch(here)
        return
    with told():
        upstream = checked_url(url)
        headers = caller_headers(upstream)
        headers()  # whoever is not signed in is told now
    try:
        listener = listen(port)  # a browser that is opened now waits for its answer
    except PortUnavailable as error:
        fail(ExitCode.NOT_SERVED, f"{error}; choose another with --port")
    with listener:
        console.print(f"The dashboard of {urlsplit(upstream).netloc} is at {here} as long as this runs; Ctrl-C ends it")
        if browser:
            typer.launch(here)
        _serve(CredentialedProxy(upstream, headers=headers, port=port), listener)
    console.print("stopped")


def _require_dev(port: int) -> None:
    try:
        answer = httpx.get(f"http://{LOOPBACK}:{port}/api/v1/health", timeout=5.0, trust_env=False)
    except httpx.HTTPError:
        fail(
            ExitCode.NOT_SERVED,
            f"nothing answers at port {port}: start `autopilot dev`, or name a deployed API with --url",
        )
    if not _is_ours(answer.content):
        fail(ExitCode.NOT_SERVED, f"what answers at port {port} is not `autopilot dev`; name its port with --port")


def _is_ours(said: bytes) -> bool:
    with suppress(ValidationError):
        HealthReport.model_validate_json(said)
        return True
    with suppress(ValidationError):
        ErrorAnswer.model_validate_json(said)  # it wants its key, which the browser will be asked for
        return True
    return False


def _serve(app: CredentialedProxy, listener: socket.socket) -> None:
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1)
    try:
        with interruptible():
            uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return
