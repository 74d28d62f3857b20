"""``autopilot serve``: a workflow's real function, left serving."""

from typing import Annotated

import typer
from rich.console import Console

from autopilot.cli.bundle import require_workflow
from autopilot.cli.environment import function_variables
from autopilot.cli.exits import ExitCode, fail, interruptible, told
from autopilot.cli.options import SOURCE, SourceOption, settings_or_fail
from autopilot.development.function_server import FunctionServer
from autopilot.errors import FunctionNotServed


def serve(
    *,
    workflow: Annotated[str, typer.Argument(help="A workflow of main.py, by the name of its function.")],
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    source: SourceOption = SOURCE,
) -> None:
    """Serve a workflow's function on this machine until Ctrl-C."""
    require_workflow(workflow, source)
    console = Console(highlight=False, soft_wrap=True)
    with told():
        settings = settings_or_fail()
    server = FunctionServer(workflow, source=source, port=port, env=function_variables(settings), capture=False)
    try:
        with interruptible(), server:
            console.print(f"[bold]{workflow}[/bold] is served at {server.url}; Ctrl-C stops it. A run:\n")
            console.print(f"  curl -X POST {server.url} -H 'Content-Type: application/json' -d '{{}}'\n", markup=False)
            code = server.wait()
    except FunctionNotServed as error:
        fail(ExitCode.NOT_SERVED, str(error))
    except KeyboardInterrupt:
        console.print("stopped")
    else:
        fail(ExitCode.NOT_SERVED, f"the server of {workflow} ended by itself, with exit code {code}")
