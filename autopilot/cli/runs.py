"""``autopilot runs``: what ran, newest first."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from autopilot.api.schemas import RunPage
from autopilot.cli.options import SOURCE, JsonOption, SinceOption, SourceOption, UrlOption, with_source
from autopilot.cli.output import print_json, print_line
from autopilot.cli.run_source import RunSource, collect_runs
from autopilot.cli.run_views import print_runs
from autopilot.core.store import RunFilter
from autopilot.models import RunStatus


def runs(
    *,
    workflow: Annotated[str | None, typer.Argument(help="Of this workflow only.")] = None,
    status: Annotated[RunStatus | None, typer.Option("--status", "-s", help="In this status only.")] = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 20,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    wanted = RunFilter(workflow_id=workflow, status=status, since=None if since is None else datetime.now(UTC) - since)

    async def list_runs(runs: RunSource) -> tuple[RunPage, str]:
        return await collect_runs(runs, wanted, limit=limit), runs.described

    page, place = with_source(url, source, list_runs)
    if as_json:
        print_json(page)
    elif page.runs:
        print_runs(Console(), page.runs, more=page.next_cursor is not None)
    else:
        print_line(f"no {'such ' if _chooses(wanted) else ''}runs in {place}")


def _chooses(wanted: RunFilter) -> bool:
    return wanted != RunFilter()
