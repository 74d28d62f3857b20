"""The outcomes of one invocation of a workflow."""

from dataclasses import dataclass

from autopilot.core.store import Lease
from autopilot.models import WorkflowRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A run that this instance has started or claimed, and that has no outcome yet."""

    run: WorkflowRun
    lease: Lease | None
    """The attempt's hold on the run in the journal; None: its start is not recorded there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Nothing was executed: the run is over, or another attempt holds it."""

    run: WorkflowRun
    """The run as it is recorded, or as this instance has it under way."""
    persisted: bool
    """True if the run log has the run like this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """This attempt brought the run to a terminal status."""

    run: WorkflowRun
    persisted: bool
    """True if the run log has the run as it ended."""
    start_recorded: bool
    """True if the journal has the run's start: if so, and the ending is lost, the run can be resumed."""
    interruption: BaseException | None = None
    """The cancellation or KeyboardInterrupt that ended it, to be raised again by the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """This attempt ended before the run did; another attempt can resume it at once."""

    run: WorkflowRun
    reason: str
    persisted: bool
    """True if the release is recorded; if not, the run can be resumed when its lease is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """A newer attempt holds the run: nothing that this one did counts."""

    run: WorkflowRun
    """The run as this attempt would have left it."""


Outcome = Replayed | Ended | Released | Superseded
