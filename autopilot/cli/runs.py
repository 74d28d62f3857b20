"""``autopilot runs`` and ``show``: the history of runs, and one run in full."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from autopilot.api.schemas import RunPage
from autopilot.api.tracebacks import locate_last_error
from autopilot.cli.credentials import is_local
from autopilot.cli.logs import local_events
from autopilot.cli.options import (
    SOURCE,
    JsonOption,
    RunArgument,
    SinceOption,
    SourceOption,
    UntilOption,
    UrlOption,
    WorkflowOption,
    options_for,
    run_filter,
    with_runs,
)
from autopilot.cli.output import print_json
from autopilot.cli.run_source import RunSource, collect_runs, locate_run
from autopilot.cli.run_views import print_detail, print_runs
from autopilot.core.store import RunFilter
from autopilot.models import RunStatus


def runs(
    *,
    workflow: Annotated[str | None, typer.Argument(metavar="WORKFLOW", help="Only runs of this workflow.")] = None,
    status: Annotated[RunStatus | None, typer.Option("--status", "-s", help="Only runs in this status.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Maximum number of runs.")] = 20,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    wanted = run_filter(workflow, status, since=since, until=until)

    async def list_runs(runs: RunSource) -> tuple[RunPage, str]:
        return await collect_runs(runs, wanted, limit=limit), runs.description

    page, place = with_runs(url, source, list_runs)
    if as_json:
        print_json(page)
    elif page.runs:
        print_runs(Console(), page.runs, more=page.next_cursor is not None)
    else:
        typer.echo(f"no {'matching ' if wanted != RunFilter() else ''}runs in {place}")


def show(
    *,
    run: RunArgument,
    workflow: WorkflowOption = None,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Show a run: its failure, steps, attempts and code version, its log query, and what you can do with it."""
    detail = with_runs(url, source, lambda runs: locate_run(runs, run, workflow))
    if as_json:
        return print_json(detail)
    is_deployed = url is not None and not is_local(url)
    events = [] if is_deployed else local_events(detail.run.id)
    has_error = detail.run.status is RunStatus.FAILED
    return print_detail(
        Console(),
        detail,
        now=datetime.now(UTC),
        options=options_for(url),
        has_log=is_deployed or bool(events),
        raised_at=locate_last_error(events, source.resolve().parent, detail.failed_step) if has_error else None,
    )
