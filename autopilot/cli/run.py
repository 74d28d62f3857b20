"""``autopilot run``: run a workflow once, through its function."""

import json
from typing import Annotated, NoReturn

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console

from autopilot.cli.api_runs import error_of
from autopilot.cli.bundle import require_workflow
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.cli.local_runs import local_server
from autopilot.cli.options import SOURCE, JsonOption, SourceOption
from autopilot.cli.output import print_json
from autopilot.cli.run_views import WorkflowTotals, has_failed, print_run
from autopilot.development.function_server import FunctionServer
from autopilot.development.local_store import kept_in
from autopilot.errors import FunctionNotServed
from autopilot.models import WorkflowRun
from autopilot.settings import load_settings
from autopilot.text import visible

_CONNECT_SECONDS = 10.0


def run(
    *,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name of the workflow's function in main.py.")],
    payload: Annotated[
        str, typer.Option(help="A JSON object. {url} in it is replaced with the URL of the function itself.")
    ] = "",
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Run a workflow once, through its function, and show the run and the workflow's totals."""
    require_workflow(workflow, source)
    settings = load_settings()
    server = local_server(workflow, source, settings)
    body = request_body(payload, url=server.url)
    with Console(stderr=True).status(f"Running {workflow}"), server:
        ended, persisted, totals = _run_once(server, body)
    failed = has_failed(ended.status)
    if failed or not persisted:  # above the summary, which is what a person should see last
        typer.echo(f"The function's log:\n{visible(server.log_text())}", err=True)
    if as_json:
        print_json(ended)
    else:
        print_run(Console(), ended, totals, persisted=persisted, store=kept_in(settings))
        if failed and persisted:
            typer.echo(f"\n  autopilot show {ended.id}")
    if failed:
        raise typer.Exit(ExitCode.RUN_FAILED)


def _run_once(server: FunctionServer, body: bytes) -> tuple[WorkflowRun, bool, WorkflowTotals | None]:
    """The run, whether it was recorded, and the workflow's totals unless the function cannot read them."""
    # A run may take long. Proxies lead away from this machine.
    timeout = httpx.Timeout(_CONNECT_SECONDS, read=None)
    with httpx.Client(base_url=server.url, timeout=timeout, trust_env=False) as function:
        try:
            answer = function.post("/", content=body, headers={"Content-Type": "application/json"})
            ended = _run_of(answer, function)
        except httpx.TransportError as error:
            raise FunctionNotServed(server.target, f"it ended without an answer: {error}", server.log_text()) from error
        try:
            totals = WorkflowTotals.model_validate_json(function.get("/").raise_for_status().content)
        except (httpx.HTTPError, ValidationError):
            totals = None  # shown as not available: the run itself has ended
    return ended, answer.headers.get("Autopilot-Persisted") == "true", totals


def _run_of(answer: httpx.Response, function: httpx.Client) -> WorkflowRun:
    run_id = answer.headers.get("Autopilot-Run-Id")
    if run_id is None:
        raise CommandFailed(ExitCode.of_http_status(answer.status_code), error_of(answer).message)
    # The body of a workflow that answers with its result alone is not the run.
    run = _parsed(answer, run_id) or _parsed(function.get(f"/runs/{run_id}"), run_id)
    if run is None:
        raise CommandFailed(ExitCode.NOT_SERVED, f"run {run_id} is not in the run log")
    return run


def _parsed(answer: httpx.Response, run_id: str) -> WorkflowRun | None:
    try:
        run = WorkflowRun.model_validate_json(answer.content)
    except ValidationError:
        return None
    return run if run.id == run_id else None


def request_body(payload: str, *, url: str) -> bytes:
    """The body of a trigger request with a payload that was typed; empty if none was.

    Args:
        url: replaces ``{url}`` in the payload.

    Raises:
        CommandFailed: the payload is not a JSON object.
    """
    text = payload.replace("{url}", url)
    if not text.strip():
        return b""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        body = text.encode()
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except UnicodeEncodeError:
        reason = "not UTF-8"
    except RecursionError:
        reason = "nested too deeply"
    else:
        if isinstance(value, dict):
            return body
        reason = f'it must be a JSON object, such as {{"key": "value"}}, not {_kind(value)}'
    raise CommandFailed(ExitCode.WRONG_USE, f"payload: {reason}")


def _refuse_constant(name: str) -> NoReturn:
    raise CommandFailed(ExitCode.WRONG_USE, f"payload: not JSON: {name} is not a JSON number")


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    return {list: "an array", str: "a string", int: "a number", float: "a number"}.get(type(value), "null")
