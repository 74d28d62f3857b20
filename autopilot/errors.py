"""Every error that Autopilot raises on purpose.

The tree::

    AutopilotError
    ├── ConfigurationError          something must be changed before this can work
    │   ├── SettingsInvalid         an AUTOPILOT_* variable
    │   ├── WorkflowInvalid         a workflow class or its manifest
    │   ├── SourceInvalid           a file of a bundle
    │   └── ConfigInvalid           a value of a workflow's Config is missing or wrong
    ├── PayloadError                what asked for the run is at fault; no run exists
    │   ├── PayloadInvalid          refused by the workflow's payload type
    │   ├── PayloadTooLarge
    │   └── PayloadConflict         a known trigger came again with another payload
    ├── ResultError                 the workflow's code is at fault; the run fails
    │   ├── ResultInvalid           not of the declared type, or does not come back from JSON as it was
    │   └── ResultTooLarge
    ├── RunError                    the state of a run forbids it
    │   ├── RunDeadlineExceeded     the invocation's time is used up
    │   ├── RunSuperseded           a newer attempt has taken the run over
    │   ├── RunStartFailed          the start could not be recorded, so nothing was run
    │   ├── RunNotFound
    │   ├── RunStateConflict        what was asked does not go with the run's status
    │   │   └── StepsInterrupted    a retry would begin steps again that may have taken effect
    │   ├── RunTooOld               older than the manifest's max_age
    │   ├── CrashLoop               taken over again and again without a new step
    │   └── JournalRequired         durable calls need the journal, and there is none
    ├── StepError                   a step cannot be executed or recorded
    │   ├── StepNameInvalid
    │   ├── StepNameReused          a second use of a name without a key of its own
    │   ├── StepNotAwaited          the code that asked for a step ended without awaiting it
    │   ├── StepResultUnreadable    recorded under another type than the code has now
    │   └── StepFailed              the recorded failure of a step
    │       ├── StepTimeout         its body took too long
    │       ├── StepInterrupted     cut off, and at most once: nobody knows whether it took effect
    │       └── MapFailed           a fan-out did not reach its completion policy
    ├── StoreError                  the database
    │   ├── StoreUnavailable        away, locked or too slow: trying again can help
    │   ├── StoreVersionUnsupported written by a newer Autopilot
    │   └── CursorInvalid           a page cursor that is broken or of another list
    ├── WorkflowNotFound            no workflow has this name
    ├── StepNotFound                the run has no record of such a step
    ├── FunctionUnavailable         a workflow's function did not answer, or not as one
    └── FunctionNotServed           a function's server on this machine did not come up

Constructors take what happened as values and write the message themselves. Drivers' errors are translated once per
store; an HTTP status is chosen at the edge, in :mod:`autopilot.function.answers`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any


class AutopilotError(Exception):
    """The root: ``except AutopilotError`` catches whatever Autopilot raises on purpose."""


class ConfigurationError(AutopilotError):
    """Something must be changed by a person before this can work."""


class SettingsInvalid(ConfigurationError):
    """An environment variable of Autopilot's own has a value that cannot be used."""

    def __init__(self, variable: str, reason: str) -> None:
        super().__init__(f"{variable}: {reason}")
        self.variable = variable
        self.reason = reason


class WorkflowInvalid(ConfigurationError):
    """A workflow class cannot be used as it is written."""

    def __init__(self, workflow: str, reason: str) -> None:
        super().__init__(f"{workflow}: {reason}")
        self.workflow = workflow
        self.reason = reason


class SourceInvalid(ConfigurationError):
    """A file of a bundle cannot be deployed as it is."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ConfigInvalid(ConfigurationError):
    """Values of a workflow's ``Config`` are missing or wrong; ``fields`` names each with its variable and reason."""

    def __init__(self, workflow: str, fields: Sequence[tuple[str, str, str]]) -> None:
        problems = "; ".join(f"{field}: {reason} (set {variable})" for field, variable, reason in fields)
        super().__init__(f"configuration of workflow {workflow}: {problems}")
        self.workflow = workflow
        self.fields = tuple(fields)


class PayloadError(AutopilotError, ValueError):
    """The payload of a trigger is refused. No run exists."""


class PayloadInvalid(PayloadError):
    """The payload does not fit the workflow's payload type.

    ``details`` are pydantic's field errors (``type``, ``loc``, ``msg``), without the values that were sent.
    """

    def __init__(self, workflow: str, details: Sequence[dict[str, Any]]) -> None:
        problems = "; ".join(": ".join(filter(None, (".".join(map(str, d["loc"])), d["msg"]))) for d in details[:5])
        more = f" (and {len(details) - 5} more)" if len(details) > 5 else ""
        super().__init__(f"payload of workflow {workflow}: {problems}{more}")
        self.workflow = workflow
        self.details = tuple(details)


class PayloadTooLarge(PayloadError):
    """The payload's JSON is over the limit. Sizes are bytes of UTF-8."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the payload is {size:,} bytes of JSON; the limit is {limit:,}")
        self.size = size
        self.limit = limit


class PayloadConflict(PayloadError):
    """A trigger that is known already came again with another payload."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} was started by this trigger with another payload")
        self.run_id = run_id


class NonRetryable(Exception):
    """Raised by authors, or subclassed: trying again cannot help."""


class ResultError(AutopilotError, NonRetryable):
    """The value that the workflow's code returned cannot be recorded."""


class ResultInvalid(ResultError):
    """The result is not of its declared type, or cannot be written as JSON and read back as the same value.

    ``place`` says where in it, such as ``result.items[2].when``, ``reason`` why. Its ``__cause__`` is the error that
    reading or writing raised, if one did. No retry executes the code again that returned it: it has done its work.
    """

    def __init__(self, reason: str, place: str = "result") -> None:
        super().__init__(f"the result cannot be recorded: {'' if place == 'result' else f'{place}: '}{reason}")
        self.reason = reason
        self.place = place


class ResultTooLarge(ResultError):
    """The result's JSON is over the limit. Sizes are bytes of UTF-8."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the result is {size:,} bytes of JSON; the limit is {limit:,}")
        self.size = size
        self.limit = limit


class RunError(AutopilotError):
    """The state of a run forbids what was asked."""


class RunDeadlineExceeded(RunError, TimeoutError):
    """The invocation's time is used up and ``execute`` was stopped, and no further attempt would get beyond that.

    Attributes:
        seconds: what ``execute`` was given.
        attempts: how many in a row ended like this without a new step.
    """

    def __init__(self, seconds: float, attempts: int = 1) -> None:
        again = f"; {attempts} attempts in a row ended so, without a new step" if attempts > 1 else ""
        super().__init__(f"stopped after {seconds:g} s, the deadline of the invocation{again}")
        self.seconds = seconds
        self.attempts = attempts


class RunSuperseded(RunError):
    """A newer attempt holds the run, or a newer run has its id; nothing was changed."""

    def __init__(self, run_id: str, attempt: int, stored_attempt: int) -> None:
        newer_run = " of a newer run" if stored_attempt <= attempt else ""
        super().__init__(f"run {run_id}: attempt {attempt} was superseded by attempt {stored_attempt}{newer_run}")
        self.run_id = run_id
        self.attempt = attempt
        self.stored_attempt = stored_attempt


class RunStartFailed(RunError):
    """The start could not be recorded where it must be; the trigger can be delivered again.

    Attributes:
        stopped: why ``execute``, which had begun without it, was stopped; None: nothing was run.
    """

    def __init__(self, workflow: str, run_id: str, stopped: str | None = None) -> None:
        outcome = "nothing was run" if stopped is None else f"its execution was stopped: {stopped}"
        super().__init__(f"the start of run {run_id} of workflow {workflow} could not be recorded; {outcome}")
        self.workflow = workflow
        self.run_id = run_id
        self.stopped = stopped


class SetupTimedOut(RunError):
    """A workflow's ``setup`` did not end in the invocation's time; the next invocation tries again. No run exists."""

    def __init__(self, workflow: str, seconds: float) -> None:
        super().__init__(f"setup of workflow {workflow} did not end within {seconds:.3g} s; nothing was run")
        self.workflow = workflow
        self.seconds = seconds


class JournalRequired(RunError):
    """A durable call needs the journal, and the workflow was given a bare run log."""

    def __init__(self, call: str) -> None:
        super().__init__(
            f"{call} needs the journal, and this run is in none: the workflow was given a run log and nothing else"
        )
        self.call = call


class RunNotFound(RunError):
    """The workflow has no such run."""

    def __init__(self, workflow: str, run_id: str) -> None:
        super().__init__(f"workflow {workflow} has no run {run_id[:128]}")
        self.workflow = workflow
        self.run_id = run_id


_STATES = {
    "success": "already succeeded",
    "failed": "already failed",
    "cancelled": "was already cancelled",
    "skipped": "was skipped",
}
"""What a sentence says of a run that is over."""


class RunStateConflict(RunError):
    """The run's status does not allow the action."""

    def __init__(self, run_id: str, status: str, asked: str) -> None:
        super().__init__(f"run {run_id} {_STATES.get(status, f'is {status}')}; it cannot be {asked}")
        self.run_id = run_id
        self.status = status
        self.asked = asked


class StepsInterrupted(RunStateConflict):
    """A retry would begin steps again that may already have taken effect: it must say so for each of them.

    ``keys`` are their full keys.
    """

    def __init__(self, run_id: str, status: str, keys: Sequence[str]) -> None:
        AutopilotError.__init__(
            self,
            f"run {run_id} can be retried only by beginning again what may already have taken effect: "
            f"{', '.join(keys)}; check whether it did, and confirm each",
        )
        self.run_id = run_id
        self.status = status
        self.asked = "retried"
        self.keys = tuple(keys)


class RunTooOld(RunError):
    """The run is older than its workflow's ``max_age`` and is not gone on with."""

    def __init__(self, age: timedelta, max_age: timedelta) -> None:
        super().__init__(f"the run is {age} old; max_age is {max_age}")
        self.age = age
        self.max_age = max_age


class CrashLoop(RunError):
    """The run was taken over again and again, and no attempt recorded a new step: it would go on for ever."""

    def __init__(self, claims: int) -> None:
        super().__init__(f"taken over {claims} times in a row without a new step")
        self.claims = claims


class StepError(AutopilotError):
    """A step cannot be executed or recorded. ``key`` is the step's full key."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"step {key}: {message}")
        self.key = key


class StepNameInvalid(StepError, ValueError):
    """A name or key of a step that cannot be one."""


class StepNameReused(StepError):
    """A name is used a second time in its scope, at once or later, without a ``key`` of its own."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "this name was used before in this run; give each use its own key=")


class StepNotAwaited(StepError, NonRetryable):
    """The code that asked for a step ended while the step was under way, or before it had begun.

    ``await`` the step, or cancel the task that executes it.
    """

    def __init__(self, key: str, others: int = 0) -> None:
        more = f" (and {others} more)" if others else ""
        super().__init__(
            key, f"it was not awaited{more}; await it, or cancel its task, before the code that asked for it ends"
        )


class StepResultUnreadable(StepError, NonRetryable):
    """A recorded result does not fit the type that the code declares now."""


class StepFailed(StepError):
    """The last failure of a step, as it is recorded: the same in the first attempt and in every resume.

    The exception that the step's body raised is logged with its traceback and is not reachable from here, so that code
    which handles a failure takes the same path each time.

    Attributes:
        step: the step's full key.
        error_type: the name of the class that the body raised.
        error: what that exception said.
    """

    raised_at: int | None = None
    """The moment of the execution at which this was raised; None: an author made it, of no step's record."""

    def __init__(self, step: str, error_type: str, error: str, *, classes: Sequence[str] = (), text: str = "") -> None:
        super().__init__(step, text or (f"{error_type}: {error}" if error else error_type))
        self.step = step
        self.error_type = error_type
        self.error = error
        self.classes = tuple(classes)
        """The names of the classes that the exception had, with their modules, most derived first."""
        self.raised_in: object = None
        """The line of the execution's code in which this was raised."""
        self.trace = ""
        """The text of the original's traceback; in the attempt in which it was raised."""

    def caused_by(self, kind: type[BaseException] | str) -> bool:
        """Whether the body raised ``kind`` or a class that is derived from it.

        Args:
            kind: a class, compared by its module and name with those that were recorded; or a name, with or without
                the module: ``"PaymentRefused"``, ``"payments.PaymentRefused"``.
        """
        if isinstance(kind, str):
            return any(name == kind or name.endswith(f".{kind}") for name in self.classes)
        return class_name(kind) in self.classes


def class_name(cls: type) -> str:
    """The name of a class with its module, as it is recorded."""
    module = str(cls.__module__)  # which an author can set to anything
    module = "autopilot" if module.startswith("autopilot.") else module
    return f"{module}.{cls.__qualname__}"


class StepTimeout(StepFailed, TimeoutError):
    """A step's body took longer than its timeout."""


class StepInterrupted(StepFailed, NonRetryable):
    """An at-most-once step was cut off. Whether it took effect is unknown, so it is not begun again."""


class MapFailed(StepFailed):
    """A fan-out did not reach its completion policy. ``result`` has what every item came to."""

    def __init__(self, step: str, error: str, result: Any, *, classes: Sequence[str] = ()) -> None:
        super().__init__(step, "MapFailed", error, classes=(*classes, class_name(MapFailed)), text=error)
        self.result = result


class AttemptStopped(BaseException):
    """This attempt must end here; the run goes on in another one, or belongs to another already.

    No ``Exception``, so that an author's ``except Exception`` does not hold it up.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AttemptTimedOut(AttemptStopped):
    """This attempt's time is used up."""

    def __init__(self) -> None:
        super().__init__("the deadline of the invocation")


class StoreError(AutopilotError):
    """The database refused or failed."""


class StoreUnavailable(StoreError):
    """The store is away, locked, read-only or too slow. Trying again later can help."""

    def __init__(self, store: str, doing: str, reason: str) -> None:
        super().__init__(f"{store}: {doing}: {reason}")
        self.store = store
        self.doing = doing
        self.reason = reason


class StoreVersionUnsupported(StoreError):
    """The data was written by a newer Autopilot than this one."""

    def __init__(self, store: str, found: int, supported: int) -> None:
        super().__init__(
            f"{store}: the data has schema version {found}, this Autopilot knows up to {supported}; upgrade Autopilot"
        )
        self.store = store
        self.found = found
        self.supported = supported


class CursorInvalid(StoreError, ValueError):
    """A page cursor that is broken, or that belongs to another list."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cursor: {reason}")
        self.reason = reason


class WorkflowNotFound(AutopilotError):
    """No workflow of this bundle has the name."""

    def __init__(self, workflow: str) -> None:
        super().__init__(f"there is no workflow {workflow[:80]!r}")
        self.workflow = workflow


class StepNotFound(AutopilotError):
    """The run has no record of such a step."""

    def __init__(self, run_id: str, key: str) -> None:
        super().__init__(f"run {run_id} has no record of a step {key[:200]!r}")
        self.run_id = run_id
        self.key = key


class FunctionUnavailable(AutopilotError):
    """A workflow's function could not be called, or what answered was no function of ours."""

    def __init__(self, workflow: str, reason: str) -> None:
        super().__init__(f"the function of workflow {workflow}: {reason}")
        self.workflow = workflow
        self.reason = reason


class FunctionNotServed(AutopilotError):
    """A function could not be served on this machine. ``log`` has the last lines that its server wrote."""

    def __init__(self, function: str, reason: str, log: str = "") -> None:
        super().__init__(f"function {function} cannot be served: {reason}" + (f"\n{log}" if log else ""))
        self.function = function
        self.reason = reason
        self.log = log
