"""``autopilot show``: one run, with all that is known of it."""

from datetime import UTC, datetime

from rich.console import Console

from autopilot.api.tracebacks import locate_last_error
from autopilot.cli.addresses import is_of_this_machine
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
        raised_at=locate_last_error(events, source.resolve().parent) if detail.run.status is RunStatus.FAILED else None,
    )
