"""``autopilot run``: one run of a workflow, through its real function."""

from typing import Annotated

import httpx
import typer
from rich.console import Console

from autopilot.cli.bundle import require_workflow
from autopilot.cli.environment import function_variables
from autopilot.cli.exits import ExitCode, fail, interruptible, told
from autopilot.cli.function_client import FunctionClient, RunAnswer, WorkflowTotals
from autopilot.cli.options import SOURCE, JsonOption, SourceOption, settings_or_fail
from autopilot.cli.output import print_aside, print_json, print_line
from autopilot.cli.payload import PayloadTextInvalid, payload_from
from autopilot.cli.rendering import print_run
from autopilot.development.function_server import FunctionServer
from autopilot.development.local_store import kept_in
from autopilot.errors import FunctionNotServed
from autopilot.models import RunStatus

_UNSUCCESSFUL = {RunStatus.FAILED, RunStatus.CANCELLED}


def run(
    *,
    workflow: Annotated[str, typer.Argument(help="A workflow of main.py, by the name of its function.")],
    payload: Annotated[
        str, typer.Option(help="A JSON object. {url} in it stands for the address of the function itself.")
    ] = "",
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Serve a workflow's function, ask it for one run, and show the run and the workflow's totals."""
    require_workflow(workflow, source)
    with told():
        settings = settings_or_fail()
    server = FunctionServer(workflow, source=source, env=function_variables(settings))
    body = _body(payload, server.url)
    try:
        with interruptible(), Console(stderr=True).status(f"Running {workflow}"), server:
            answer, totals = _one_run(server, body)
    except FunctionNotServed as error:
        fail(ExitCode.NOT_SERVED, str(error))
    except KeyboardInterrupt:
        fail(ExitCode.INTERRUPTED, "interrupted; the server was stopped")
    if answer.run is None:
        refused = 400 <= answer.http_status < 500
        fail(ExitCode.WRONG_USE if refused else ExitCode.NOT_SERVED, answer.message)
    failed = answer.run.status in _UNSUCCESSFUL
    if failed or not answer.persisted:  # first: what it came to is above the prompt then
        print_aside(f"The function's log:\n{server.log_text()}")
    if as_json:
        print_json(answer.run)
    else:
        print_run(Console(), answer.run, totals, persisted=answer.persisted, kept_in=kept_in(settings))
        if failed and answer.persisted:
            print_line(f"\n  autopilot show {answer.run.id}")
    if failed:
        raise typer.Exit(ExitCode.RUN_FAILED)


def _one_run(server: FunctionServer, body: bytes) -> tuple[RunAnswer, WorkflowTotals | None]:
    with FunctionClient(server.url) as client:
        try:
            answer = client.ask_for_run(body)
        except httpx.TransportError as error:
            raise FunctionNotServed(server.target, f"it ended without an answer: {error}", server.log_text()) from error
        try:
            return answer, client.read_totals()
        except httpx.HTTPError:
            return answer, None  # the run is told all the same, and the totals as not available


def _body(payload: str, url: str) -> bytes:
    try:
        return payload_from(payload, url=url)
    except PayloadTextInvalid as error:
        fail(ExitCode.WRONG_USE, f"payload: {error}")
