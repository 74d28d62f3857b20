"""The first lines of ``autopilot dev``: addresses, the next run of each workflow, and where the history is."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autopilot.core.triggers.ticks import next_ticks
from autopilot.development.local_app import LocalFunction
from autopilot.errors import WorkflowInvalid
from autopilot.models import WorkflowManifest
from autopilot.text import visible

_GRID = (0, 2, 0, 2)


def print_first_screen(
    console: Console,
    functions: Sequence[LocalFunction],
    errors: Mapping[str, Exception],
    *,
    url: str,
    asks_for_key: bool,
    kept_in: str,
    log_file: str,
    environment: str,
    now: datetime,
) -> None:
    """Print the addresses, the next run of each workflow, and the errors of those that cannot be served."""
    console.print(Text("\nautopilot dev", style="bold").append(f" · {environment}\n", style="not bold dim"))
    places = Table.grid(padding=_GRID)
    places.pad_edge = True
    places.add_column(style="dim", no_wrap=True)
    places.add_column(overflow="fold")
    places.add_row("Dashboard", f"{url}/")
    places.add_row("API", f"{url}/api/v1")
    if asks_for_key:
        places.add_row("Sign-in", "with the value of AUTOPILOT_API_KEY")
    places.add_row("History", kept_in)
    places.add_row("Log", log_file)
    console.print(places)
    console.print()
    console.print(_functions(functions, url, now))
    print_errors(console, errors)
    if functions:
        console.print(Text(f"\n  A run: curl -X POST {url}/{functions[0].name}", style="dim"), soft_wrap=True)
    console.print(Text("  A changed file is served at once. Ctrl-C stops it.\n", style="dim"))


def print_errors(console: Console, errors: Mapping[str, Exception]) -> None:
    """Print why functions cannot be served, by their names."""
    for name, error in errors.items():
        reason = error.reason if isinstance(error, WorkflowInvalid) else f"{type(error).__name__}: {error}"
        console.print(Text(f"\n  ✘ {name}: {visible(reason)}", style="red"), soft_wrap=True)


def _functions(functions: Sequence[LocalFunction], url: str, now: datetime) -> Table:
    table = Table.grid(padding=_GRID)
    table.pad_edge = True
    for _ in range(3):
        table.add_column(overflow="fold")
    table.add_row(*(Text(name, style="dim") for name in ("Workflow", "Address", "Next run")))
    for function in functions:
        name = Text(function.workflow.workflow_id, style="bold")
        table.add_row(name, f"{url}/{function.name}", _next_run(function.workflow.manifest, now))
    return table


def _next_run(manifest: WorkflowManifest, now: datetime) -> str:
    if not manifest.enabled:
        return "disabled"
    ticks = next_ticks(manifest, now)
    if not ticks:
        return "no schedule"
    zone = ZoneInfo(ticks[0].schedule.time_zone)
    return f"{ticks[0].at.astimezone(zone):%m-%d %H:%M} {zone.key}"
