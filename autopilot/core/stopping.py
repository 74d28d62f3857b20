"""The end of an attempt before the end of its run."""

from autopilot.errors import AttemptStopped


class StopSwitch:
    """Ends one attempt: once it is thrown, no step begins and none is recorded, and the run goes on elsewhere.

    Shared by all that can find out that the attempt must end: the records of its steps, its context, the shutdown.
    """

    def __init__(self) -> None:
        self.stopped: AttemptStopped | None = None
        """Why the attempt must end, once it must."""

    def stop(self, stopped: AttemptStopped) -> AttemptStopped:
        """End the attempt; the first reason stays. What is returned is to be raised."""
        if self.stopped is None:
            self.stopped = stopped
        return self.stopped

    def require_running(self) -> None:
        """Raise once the attempt must end.

        Raises:
            AttemptStopped
        """
        if self.stopped is not None:
            raise self.stopped
