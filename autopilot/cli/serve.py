"""``autopilot serve`` and ``dev``: serve one function, or a whole bundle, until Ctrl-C."""

from typing import Annotated

import typer
from rich.console import Console

from autopilot.cli.bundle import require_source, require_workflow
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.cli.local_runs import local_server
from autopilot.cli.options import SOURCE, PortOption, SourceOption
from autopilot.errors import FunctionNotServed
from autopilot.loopback import PortUnavailable
from autopilot.settings import load_settings


def serve(
    *,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name of the workflow's function in main.py.")],
    port: PortOption = 8080,
    source: SourceOption = SOURCE,
) -> None:
    """Serve a workflow's function on this machine, as the cloud does, until Ctrl-C."""
    require_workflow(workflow, source)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    server = local_server(workflow, source, load_settings(), port=port, capture=False)
    try:
        with server:
            console.print(f"{workflow} is served at {server.url}; Ctrl-C stops it. Start a run with:\n")
            console.print(f"  curl -X POST {server.url} -H 'Content-Type: application/json' -d '{{}}'\n")
            code = server.wait()
    except KeyboardInterrupt:
        console.print("stopped")
    else:
        raise CommandFailed(ExitCode.NOT_SERVED, f"the server of {workflow} ended with exit code {code}")


def dev(*, port: PortOption = 8080, source: SourceOption = SOURCE) -> None:
    """Serve the bundle until Ctrl-C: workflows, schedules, API and dashboard. Reloads changed files."""
    # The API and the bundle are imported by the process that serves them, not by this one.
    from autopilot.development.local_store import require_local_store
    from autopilot.development.reloader import Reloader

    require_source(source)
    require_local_store(load_settings())
    console = Console(highlight=False)
    try:
        Reloader(source, port, console).run()
    except PortUnavailable as error:
        raise CommandFailed(ExitCode.NOT_SERVED, f"{error}; choose another with --port") from None
    except FunctionNotServed as error:
        raise CommandFailed(ExitCode.NOT_SERVED, error.reason) from None
    except KeyboardInterrupt:
        console.print("stopped")
