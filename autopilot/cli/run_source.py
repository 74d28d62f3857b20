"""Where a command finds runs and has something done with them: on this machine, or behind a deployed API."""

import asyncio
from typing import Protocol

from autopilot.api.schemas import MAX_PAGE_SIZE, RunAccepted, RunDetail, RunPage, RunSummary
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.core.store import RunFilter

SEARCHED_RUNS = 1000
"""How many of the latest runs are looked through for one whose id begins as it was typed."""


class RunSource(Protocol):
    """The runs of all workflows. What goes wrong is :class:`~autopilot.cli.exits.CommandFailed`."""

    @property
    def described(self) -> str:
        """Where the runs are kept, for people."""
        ...

    async def workflow_names(self) -> list[str]:
        """The workflows that are known, sorted."""
        ...

    async def find_runs(self, wanted: RunFilter, *, limit: int, start_after: str | None = None) -> RunPage:
        """One page of runs, newest first; ``limit`` is 1 to 200. A workflow that is not known is told."""
        ...

    async def get_run(self, workflow: str, run_id: str) -> RunDetail | None:
        """A run with its attempts and steps; None: there is none."""
        ...

    async def retry(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        """Have a failed or cancelled run go on at its first unrecorded step.

        Its end is waited for, ``wait`` seconds at most; on this machine always, since nothing would go on without us.
        """
        ...

    async def rerun(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        """Have the payload of a run run once more, as a new run. ``wait`` is as in :meth:`retry`."""
        ...

    async def cancel(self, workflow: str, run_id: str) -> RunAccepted:
        """Cancel a run, at its next step."""
        ...

    async def close(self) -> None:
        """Let go of connections and processes."""
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
    """The run of this id, or the one of the latest runs whose id begins so; of any workflow unless one is named.

    Raises:
        CommandFailed: there is none, or more than one.
    """
    names = [workflow] if workflow is not None else await source.workflow_names()
    found = await asyncio.gather(*(source.get_run(name, run_id) for name in names))
    details = [detail for detail in found if detail is not None]
    if not details:
        latest = await collect_runs(source, RunFilter(workflow_id=workflow), limit=SEARCHED_RUNS)
        similar = [run for run in latest.runs if run.id.startswith(run_id)]
        if len(similar) == 1:
            details = [
                detail for run in similar if (detail := await source.get_run(run.workflow_id, run.id)) is not None
            ]
        elif similar:
            raise CommandFailed(ExitCode.WRONG_USE, f"{len(similar)} runs begin with {run_id}: type more of the id")
    if not details:
        of_whom = f"workflow {workflow} has" if workflow is not None else "there is"
        raise CommandFailed(
            ExitCode.NOT_FOUND, f"{of_whom} no run {run_id[:128]!r} in {source.described}; `autopilot runs` lists them"
        )
    if len(details) > 1:
        owners = ", ".join(detail.run.workflow_id for detail in details)
        raise CommandFailed(ExitCode.WRONG_USE, f"run {run_id} is known to {owners}: say which with --workflow")
    return details[0]
