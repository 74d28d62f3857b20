"""Where a command finds runs, and where it has something done with them: on this machine, or behind a deployed API."""

from typing import Protocol

from autopilot.api.schemas import RunAccepted, RunDetail, RunPage
from autopilot.core.run_archive import RunFilter
from autopilot.models import WorkflowRun


class RunSource(Protocol):
    """The runs of all workflows.

    Every method can raise :class:`SourceRefused`, with what a person is told.
    """

    @property
    def described(self) -> str:
        """Where the runs are kept, for people."""
        ...

    @property
    def retry_hint(self) -> str:
        """What stands behind ``autopilot`` in a command that acts on this source; empty on this machine."""
        ...

    async def workflow_names(self) -> list[str]:
        """The workflows that are known, sorted."""
        ...

    async def find_runs(self, wanted: RunFilter, *, limit: int, start_after: str | None = None) -> RunPage:
        """One page of runs, newest first; ``limit`` is 1 to 200."""
        ...

    async def get_run(self, workflow: str, run_id: str) -> RunDetail | None:
        """A run with its attempts and steps; None: there is none."""
        ...

    async def retry(self, workflow: str, run_id: str) -> RunAccepted:
        """Have a failed or cancelled run go on at its first unrecorded step."""
        ...

    async def rerun(self, workflow: str, run_id: str) -> RunAccepted:
        """Have the payload of a run run once more, as a new run."""
        ...

    async def cancel(self, workflow: str, run_id: str) -> RunAccepted:
        """Cancel a run at its next step."""
        ...

    async def close(self) -> None:
        """Let go of connections and processes."""
        ...


__all__ = ["RunSource", "WorkflowRun"]
