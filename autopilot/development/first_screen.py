"""What a developer sees first: what is served where, what ticks next, and where the history is."""

from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autopilot.core.triggers.ticks import next_ticks
from autopilot.development.bundle_functions import LoadedBundle, LocalFunction

_GRID = (0, 2, 0, 2)


def print_first_screen(
    console: Console,
    bundle: LoadedBundle,
    *,
    url: str,
    asks_for_key: bool,
    kept_in: str,
    log_file: str,
    environment: str,
    now: datetime,
) -> None:
    """Print the addresses, the next tick of each workflow, and what is wrong."""
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
    console.print(_functions(bundle.functions, url, now))
    print_faults(console, bundle)
    if bundle.functions:
        console.print(Text(f"\n  A run: curl -X POST {url}/{bundle.functions[0].name}", style="dim"), soft_wrap=True)
    console.print(Text("  A changed file is served at once. Ctrl-C ends it.\n", style="dim"))


def print_faults(console: Console, bundle: LoadedBundle) -> None:
    """Print what keeps workflows from being served."""
    for fault in bundle.faults:
        console.print(Text(f"\n  ✘ {fault}", style="red"), soft_wrap=True)


def _functions(functions: list[LocalFunction], url: str, now: datetime) -> Table:
    table = Table.grid(padding=_GRID)
    table.pad_edge = True
    for _ in range(3):
        table.add_column(overflow="fold")
    table.add_row(*(Text(name, style="dim") for name in ("Workflow", "Address", "Next tick")))
    for function in functions:
        table.add_row(Text(function.workflow.workflow_id, style="bold"), f"{url}/{function.name}", _tick(function, now))
    return table


def _tick(function: LocalFunction, now: datetime) -> str:
    ticks = next_ticks(function.workflow.manifest, now)
    if not ticks:
        return "no schedule"
    zone = ZoneInfo(ticks[0].schedule.time_zone)
    return f"{ticks[0].at.astimezone(zone):%m-%d %H:%M} {zone.key}"
