"""``autopilot show``: one run, with all that is known of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from autopilot.cli.addresses import is_of_this_machine
from autopilot.cli.code_place import CodePlace, place_in_bundle
from autopilot.cli.logs import kept_log
from autopilot.cli.options import SOURCE, JsonOption, RunArgument, SourceOption, UrlOption, WorkflowOption, with_source
from autopilot.cli.output import print_json
from autopilot.cli.run_source import locate_run
from autopilot.cli.run_views import print_detail
from autopilot.models import RunStatus


def show(
    *,
    run: RunArgument,
    workflow: WorkflowOption = None,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Show a run: what failed and why, steps, attempts, revision, how to find its log, and what can be done."""
    detail = with_source(url, source, lambda runs: locate_run(runs, run, workflow))
    if as_json:
        return print_json(detail)
    is_deployed = bool(url) and not is_of_this_machine(str(url))
    events = [] if is_deployed else kept_log(detail.run.id)[1]
    return print_detail(
        Console(),
        detail,
        now=datetime.now(UTC),
        options=f" --url {url}" if url else "",
        has_log=is_deployed or bool(events),
        raised_at=_raised_at(events, source) if detail.run.status is RunStatus.FAILED else None,
    )


def _raised_at(events: list[dict[str, Any]], source: Path) -> CodePlace | None:
    trace = next((str(event["exception"]) for event in reversed(events) if event.get("exception")), "")
    return place_in_bundle(trace, source.resolve().parent)
