"""``autopilot dev``: a whole bundle on this machine."""

from typing import Annotated

import typer
from rich.console import Console

from autopilot.cli.exits import ExitCode, fail, interruptible
from autopilot.cli.options import SOURCE, SourceOption
from autopilot.errors import FunctionNotServed


def dev(
    *,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    source: SourceOption = SOURCE,
) -> None:
    """Serve every workflow, the API, the dashboard and the schedules until Ctrl-C; a changed file is served at once."""
    # What serves is another process: only it imports the API and the bundle.
    from autopilot.development.reloader import Reloader

    if not source.is_file():
        fail(ExitCode.WRONG_USE, f"there is no {source} here; go to the folder of your bundle, or use --source")
    console = Console(highlight=False)
    try:
        with interruptible():
            Reloader(source, port, console).run()
    except FunctionNotServed as error:
        fail(ExitCode.NOT_SERVED, f"{error.reason}; choose another with --port")
    except KeyboardInterrupt:
        console.print("stopped")
