"""``autopilot cancel``: a run ends at its next step."""

from autopilot.cli.actions import act_on
from autopilot.cli.options import SOURCE, JsonOption, RunArgument, SourceOption, UrlOption, WorkflowOption


def cancel(
    *,
    run: RunArgument,
    workflow: WorkflowOption = None,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Cancel a run; it takes effect at its next step."""
    act_on(
        lambda runs, found: runs.cancel(found.workflow_id, found.id),
        run,
        workflow,
        url=url,
        source=source,
        doing="Cancelling",
        as_json=as_json,
    )
