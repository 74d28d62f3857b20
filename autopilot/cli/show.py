"""``autopilot show``: one run, with all that is known of it."""

from rich.console import Console

from autopilot.cli.options import SOURCE, JsonOption, RunArgument, SourceOption, UrlOption, WorkflowOption, with_source
from autopilot.cli.output import print_json
from autopilot.cli.run_source import locate_run
from autopilot.cli.run_views import print_detail


def show(
    *,
    run: RunArgument,
    workflow: WorkflowOption = None,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Show a run: its error, the step that failed, steps, attempts, revision, and how to find its log."""
    detail = with_source(url, source, lambda runs: locate_run(runs, run, workflow))
    if as_json:
        print_json(detail)
    else:
        print_detail(Console(), detail, options=f" --url {url}" if url else "")
