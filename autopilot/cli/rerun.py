"""``autopilot rerun``: the payload of a run once more, as a new run."""

from autopilot.cli.actions import WAIT_SECONDS, act_on, end_as
from autopilot.cli.options import SOURCE, JsonOption, RunArgument, SourceOption, UrlOption, WorkflowOption


def rerun(
    *,
    run: RunArgument,
    workflow: WorkflowOption = None,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Run the payload of a run once more, as a new run."""
    accepted = act_on(
        lambda runs, found: runs.rerun(found.workflow_id, found.id, wait=WAIT_SECONDS),
        run,
        workflow,
        url=url,
        source=source,
        doing="Repeating",
        as_json=as_json,
    )
    end_as(accepted)
