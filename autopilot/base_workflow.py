"""BaseWorkflow: a workflow as a class of its author's."""

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

from pydantic import BaseModel
from typing_extensions import TypeVar

from autopilot.context import RunContext
from autopilot.core.engine import Engine
from autopilot.core.outcome import Ended
from autopilot.core.runs.history import success_rate
from autopilot.core.runs.schema import type_arguments
from autopilot.core.runtime import Runtime
from autopilot.core.store import RunLogService
from autopilot.errors import WorkflowInvalid
from autopilot.models import Trigger, TriggerType, WorkflowManifest, WorkflowRun

PayloadT = TypeVar("PayloadT", default=dict[str, Any])
ResultT = TypeVar("ResultT", default=Any)


class NoConfig(BaseModel):
    """The ``Config`` of a workflow that declares none."""


class BaseWorkflow(Generic[PayloadT, ResultT]):
    """A workflow: subclass it, give it a manifest and ``execute``.

    ``class Digest(BaseWorkflow[DigestInput, DigestReport])`` declares the types of payload and result: the payload is
    validated before a run exists, the result is recorded as JSON. Without them the payload is a plain dict and the
    result any JSON value.

    An instance serves many runs, one after the other and at once. Its view of the past (:attr:`total_runs` and the
    like) is what it read from the run log at its first invocation, plus its own runs.

    Every name that is not defined here is the author's, on the class and on the instance: Autopilot's engine keeps to
    one attribute that no author's code can meet.

    Args:
        run_log: where runs are kept. It needs the methods of :class:`~autopilot.core.store.RunLogService` and nothing
            else; without a journal beside it, only the endings of runs are recorded. Default: the store that the
            settings name, run log and journal both.

    Raises:
        WorkflowInvalid: the class cannot be used as it is written.
    """

    manifest: ClassVar[WorkflowManifest]
    """The workflow's static description. Only ``name`` is required."""

    Config: ClassVar[type[BaseModel]] = NoConfig
    """Typed configuration, read from the variables ``<WORKFLOW>_<FIELD>`` for each run; ``ctx.config``."""

    def __init__(self, *, run_log: RunLogService | None = None) -> None:
        equip(self, Runtime.over(run_log))

    async def execute(self, ctx: RunContext[Any], payload: PayloadT) -> ResultT:
        """Do the work; overridden by authors.

        The value returned is the run's result; an exception makes the run ``failed``.
        """
        raise NotImplementedError

    async def setup(self) -> None:
        """Read the past: called on an instance's first invocation, never at import.

        A subclass that overrides it calls ``await super().setup()``. A run log that fails is logged as
        ``run_log_hydration_skipped`` and never in the way of a run; the next invocation tries that part again. A
        setup that raises fails the run that needed it, and is called again by the next one. One that does not end by
        the deadline of its invocation is cancelled, nothing is run, and the next invocation calls it again.
        """
        await engine_of(self).hydrate()

    async def run(
        self, trigger_type: TriggerType, trigger_data: Any = None, *, trigger: Trigger | None = None
    ) -> WorkflowRun:
        """Execute the workflow once: the one way to do it.

        Whatever happens in ``execute``, the run gets its status, joins the history and is saved before this returns.
        An exception in ``execute`` is a ``failed`` run and not raised; cancellation is recorded and raised again. A
        run log that is away is logged (``run_log_start_failed``, ``run_log_persist_failed``) and never stops the run,
        which is then saved at the next invocation.

        Args:
            trigger_type: the kind of thing that asked for the run.
            trigger_data: the payload, a JSON object; None is an empty one.
            trigger: with an identity, a trigger that comes again is answered from the record of its run.

        Raises:
            PayloadError: the payload is refused; no run exists.
            ConfigInvalid: the workflow's configuration is missing or wrong; no run exists.
            SetupTimedOut: :meth:`setup` did not end by the deadline of the invocation; no run exists.
            RunStartFailed: the start could not be recorded, and ``execute`` asked for a step: trigger it again. Only if
                the store took the start and every answer was lost is there a run, which is ``running``.
        """
        payload = {} if trigger_data is None else trigger_data
        outcome = await engine_of(self).invoke(trigger_type, payload, trigger=trigger)
        if isinstance(outcome, Ended) and outcome.interruption is not None:
            raise outcome.interruption
        return outcome.run

    @property
    def workflow_id(self) -> str:
        """The manifest's name."""
        return self.manifest.name

    @property
    def total_runs(self) -> int:
        """The number of runs, skipped ones left out, as this instance knows it."""
        return engine_of(self).history.stats["total"]

    @property
    def success_rate(self) -> float:
        """Successful runs in percent of all, to one decimal; 0.0 with no runs."""
        return success_rate(engine_of(self).history.stats)

    @property
    def last_run(self) -> WorkflowRun | None:
        """The latest run that this instance knows of, without payload and result; see :attr:`recent_runs`."""
        return engine_of(self).history.last_run

    @property
    def recent_runs(self) -> list[WorkflowRun]:
        """This instance's own runs, newest first, at most 100.

        An instance must not grow with what its runs were given and returned, so here ``trigger_data`` is empty and
        ``result`` is None. The run log has the whole run: ``await run_log.get_run(run.workflow_id, run.id)``.
        """
        return engine_of(self).history.recent_runs


_SLOT = "_BaseWorkflow__autopilot_engine"
"""The engine's attribute. Written and read past whatever ``__setattr__`` and ``__getattribute__`` the author has."""


@dataclass(frozen=True, slots=True, eq=False)
class _Slot:
    """An instance's engine. A copy of the instance finds that it is another's, and gets an engine of its own."""

    workflow: BaseWorkflow[Any, Any] | None = None
    runtime: Runtime | None = None
    engine: Engine | None = None

    def __deepcopy__(self, memo: Any) -> "_Slot":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _Slot, ()  # locks, connections and the past stay in their process


def equip(workflow: BaseWorkflow[Any, Any], runtime: Runtime) -> Engine:
    """Give a workflow a new engine over these parts, whatever its own constructor takes; it knows no past yet.

    Raises:
        WorkflowInvalid: the class cannot be used as it is written.
    """
    _check_class(type(workflow))
    payload_type, result_type = type_arguments(type(workflow), BaseWorkflow, (dict[str, Any], Any))
    engine = Engine(workflow, runtime, make_context=RunContext, payload_type=payload_type, result_type=result_type)
    object.__setattr__(workflow, _SLOT, _Slot(workflow, runtime, engine))
    return engine


def engine_of(workflow: BaseWorkflow[Any, Any]) -> Engine:
    """The engine of a workflow; over the process's store if its author's constructor did not call ours.

    A copy of a workflow has the same stores and no past yet. One that was pickled has the process's store.

    Raises:
        WorkflowInvalid: the class cannot be used as it is written.
    """
    try:
        slot: _Slot = object.__getattribute__(workflow, _SLOT)
    except AttributeError:
        return equip(workflow, Runtime.over(None))
    if slot.engine is None or slot.workflow is not workflow:
        return equip(workflow, slot.runtime or Runtime.over(None))
    return slot.engine


def _check_class(cls: type[BaseWorkflow[Any, Any]]) -> None:
    if not isinstance(getattr(cls, "manifest", None), WorkflowManifest):
        raise WorkflowInvalid(cls.__qualname__, "it needs 'manifest = WorkflowManifest(name=...)'")
    if cls.execute is BaseWorkflow.execute or not inspect.iscoroutinefunction(cls.execute):
        raise WorkflowInvalid(cls.__qualname__, "it needs 'async def execute(self, ctx, payload)'")
    if not (isinstance(cls.Config, type) and issubclass(cls.Config, BaseModel)):
        raise WorkflowInvalid(cls.__qualname__, "Config must be a pydantic model")
