"""The source of runs for commands: this machine, or a deployed API."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from autopilot.api.schemas import MAX_PAGE_SIZE, RunAccepted, RunDetail, RunPage, RunSummary
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.core.store import RunFilter

SEARCHED_RUNS = 1000
"""How many of the latest runs are searched for the first characters of an id."""


class RunSource(Protocol):
    """The runs of all workflows.

    Every method raises :class:`~autopilot.cli.exits.CommandFailed`, or an error of :mod:`autopilot.errors`, if the
    source does not answer or rejects the request.
    """

    @property
    def description(self) -> str:
        """Where the runs are kept, in words."""
        ...

    async def workflow_names(self) -> list[str]:
        """The known workflows, sorted."""
        ...

    async def find_runs(self, wanted: RunFilter, *, limit: int, start_after: str | None = None) -> RunPage:
        """One page of 1 to 200 runs, newest first.

        Raises:
            CommandFailed: the filter names an unknown workflow.
        """
        ...

    async def get_run(self, workflow: str, run_id: str) -> RunDetail | None:
        """A run with its attempts and steps, or None."""
        ...

    async def retry(
        self, workflow: str, run_id: str, *, wait: float, again_interrupted: Sequence[str] = ()
    ) -> RunAccepted:
        """Reopen a failed or cancelled run, as a new attempt.

        Args:
            wait: seconds to wait for its end, at most. On this machine, where the command itself serves the run, it is
                always waited for.
            again_interrupted: the keys of steps that run again although they may already have taken effect.

        Raises:
            ConfirmationNeeded: it would run such steps again, and not all of them were named.
        """
        ...

    async def rerun(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        """Start a new run with the payload of another; ``wait`` as for :meth:`retry`."""
        ...

    async def cancel(self, workflow: str, run_id: str) -> RunAccepted:
        """Cancel a run at its next step."""
        ...

    async def close(self) -> None:
        """Close connections and stop servers."""
        ...


async def collect_runs(source: RunSource, wanted: RunFilter, *, limit: int | None = None) -> RunPage:
    """The first ``limit`` runs, or all of them, over as many pages as it takes."""
    runs: list[RunSummary] = []
    cursor: str | None = None
    while True:
        size = MAX_PAGE_SIZE if limit is None else min(MAX_PAGE_SIZE, limit - len(runs))
        page = await source.find_runs(wanted, limit=size, start_after=cursor)
        runs += page.runs
        cursor = page.next_cursor
        if cursor is None or len(runs) == limit:
            return RunPage(runs=runs, next_cursor=cursor)


async def locate_run(source: RunSource, run_id: str, workflow: str | None = None) -> RunDetail:
    """The run with this id, or the one recent run whose id starts with it.

    Args:
        workflow: searched alone; None searches all.

    Raises:
        CommandFailed: there is no such run, or more than one.
    """
    names = [workflow] if workflow is not None else await source.workflow_names()
    details = await _known(source, [(name, run_id) for name in names])
    if not details:
        latest = await collect_runs(source, RunFilter(workflow_id=workflow), limit=SEARCHED_RUNS)
        similar = [(run.workflow_id, run.id) for run in latest.runs if run.id.startswith(run_id)]
        if len(similar) > 1:
            raise CommandFailed(ExitCode.WRONG_USE, f"{len(similar)} runs start with {run_id}; type more of the id")
        details = await _known(source, similar)
    if not details:
        owner = f" of workflow {workflow}" if workflow is not None else ""
        raise CommandFailed(
            ExitCode.NOT_FOUND,
            f"there is no run {run_id[:128]!r}{owner} in {source.description}; `autopilot runs` lists them",
        )
    if len(details) > 1:
        owners = " and ".join(detail.run.workflow_id for detail in details)
        raise CommandFailed(ExitCode.WRONG_USE, f"{owners} both have a run {run_id}; choose one with --workflow")
    return details[0]


async def _known(source: RunSource, keys: list[tuple[str, str]]) -> list[RunDetail]:
    found = await asyncio.gather(*(source.get_run(workflow, run_id) for workflow, run_id in keys))
    return [detail for detail in found if detail is not None]
