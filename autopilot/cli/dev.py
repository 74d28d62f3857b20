"""``autopilot dev``: a whole bundle on this machine."""

from typing import Annotated

import typer
from rich.console import Console

from autopilot.cli.exits import ExitCode, fail, interruptible, told
from autopilot.cli.options import SOURCE, SourceOption, settings_or_fail
from autopilot.errors import FunctionNotServed, SettingsInvalid
from autopilot.loopback import PortUnavailable


def dev(
    *,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    source: SourceOption = SOURCE,
) -> None:
    """Serve every workflow, the API, the dashboard and the schedules until Ctrl-C; a changed file is served at once."""
    # What serves is another process: only it imports the API and the bundle.
    from autopilot.development.local_store import require_local_store
    from autopilot.development.reloader import Reloader

    if not source.is_file():
        fail(ExitCode.WRONG_USE, f"there is no {source} here; go to the folder of your bundle, or use --source")
    console = Console(highlight=False)
    try:
        with told():
            require_local_store(settings_or_fail())
        with interruptible():
            Reloader(source, port, console).run()
    except SettingsInvalid as error:
        fail(ExitCode.WRONG_USE, str(error))
    except PortUnavailable as error:
        fail(ExitCode.NOT_SERVED, f"{error}; choose another with --port")
    except FunctionNotServed as error:
        fail(ExitCode.NOT_SERVED, error.reason)
    except KeyboardInterrupt:
        console.print("stopped")
