"""The argument of ``execute``: its run, and the means to work with."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar, overload

from structlog.typing import FilteringBoundLogger
from typing_extensions import TypeVar as TypeVarWithDefault

from autopilot.core.clock import Clock
from autopilot.core.deadline import seconds_left, store_call, store_seconds
from autopilot.core.steps.map import FanOut, MapResult
from autopilot.core.steps.runner import StepRunner
from autopilot.core.steps.step import NO_RETRY, Semantics, StepOptions
from autopilot.core.stopping import StopSwitch
from autopilot.core.store import RunLogService
from autopilot.errors import AttemptStopped, JournalRequired, StoreError
from autopilot.models import Completion, Retry, RunStatus, TriggerType, WorkflowRun
from autopilot.settings import is_in_cloud

ConfigT = TypeVarWithDefault("ConfigT", default=Any)
ItemT = TypeVar("ItemT")
T = TypeVar("T")

EVERY_ITEM = Completion()


class RunContext(Generic[ConfigT]):
    """One run, seen from inside.

    Attributes:
        run_id: the run's id, the same in every attempt.
        workflow_id: the workflow's name.
        attempt: 1 for the first invocation that works on the run.
        trigger_type: what asked for the run.
        started_at: when the run began, aware UTC.
        clock: the clock that the engine goes by; its ``timeout`` limits a block as :func:`asyncio.timeout` does. In
            tests, theirs.
        config: the workflow's typed ``Config``.
        log: a structlog logger; its lines carry the workflow, the run's id and the attempt.
    """

    def __init__(
        self,
        *,
        run: WorkflowRun,
        config: ConfigT,
        log: FilteringBoundLogger,
        run_log: RunLogService,
        clock: Clock,
        steps: StepRunner | None,
        switch: StopSwitch | None,
    ) -> None:
        self.run_id = run.id
        self.workflow_id = run.workflow_id
        self.attempt = run.attempt
        self.trigger_type: TriggerType = run.trigger_type
        self.started_at = run.started_at
        self.config = config
        self.log = log
        self._run_log = run_log
        self.clock = clock
        self._steps = steps
        self._switch = switch

    @property
    def is_durable(self) -> bool:
        """Whether steps can be recorded here.

        Not when the workflow was given a run log only: then they raise. Nor when the start of the run could not be
        recorded: then a step ends this invocation, and the trigger can be delivered again.
        """
        return self._steps is not None

    @property
    def in_cloud(self) -> bool:
        """Whether this is an instance of a Cloud Function, and not somebody's own machine."""
        return is_in_cloud()

    def now(self) -> datetime:
        """The time by the clock that the engine goes by: aware UTC."""
        return self.clock.now()

    async def last_success(self) -> WorkflowRun | None:
        """This workflow's latest successful run (by ``started_at``), with its payload and result as plain JSON; or None.

        None means "never", and nothing else: if the store does not answer, this invocation ends, and the run goes on in
        another one.

        Raises:
            StoreError: a run log that the workflow was given, without a journal, does not answer.
        """
        if self._steps is not None:
            self._steps.require_time()  # a store that is asked too late is not at fault
        try:
            async with store_call(self.clock, store_seconds(seconds_left()), "run log", "reading the last success"):
                runs, _ = await self._run_log.list_runs(self.workflow_id, limit=1, status=RunStatus.SUCCESS)
                # A list is without results.
                return await self._run_log.get_run(self.workflow_id, runs[0].id) if runs else None
        except StoreError as error:
            if self._switch is None:
                raise
            raise self._switch.stop(AttemptStopped(str(error))) from error

    @overload
    def step(
        self,
        name: str,
        body: Callable[..., Awaitable[T]],
        /,
        *args: Any,
        key: str | int | None = None,
        retry: Retry = NO_RETRY,
        semantics: Semantics = "at_least_once",
        timeout: timedelta | None = None,
        returns: Any = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, T]: ...

    @overload
    def step(
        self,
        name: str,
        body: Callable[..., T],
        /,
        *args: Any,
        key: str | int | None = None,
        retry: Retry = NO_RETRY,
        semantics: Semantics = "at_least_once",
        timeout: timedelta | None = None,
        returns: Any = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, T]: ...

    def step(
        self,
        name: str,
        body: Callable[..., Any],
        /,
        *args: Any,
        key: str | int | None = None,
        retry: Retry = NO_RETRY,
        semantics: Semantics = "at_least_once",
        timeout: timedelta | None = None,
        returns: Any = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Execute ``body(*args, **kwargs)`` once in the life of the run, and return its recorded result.

        The result is written down, as JSON, before this returns; a run that is resumed gets it from the record and
        does not execute the body again. The first call, too, returns the value as it is read back from its JSON, so
        that a first execution and a resume cannot differ. A plain function runs in a thread.

        A step that fails for good is recorded as failed, and every resume raises the same failure again: code that
        caught it takes the same path. A retry of the run begins again exactly the steps that failed the run.

        A step belongs to the code that asked for it. When that code ends, a step of it that is still under way is
        cancelled, and one that nobody awaited or cancelled makes it fail as :class:`~autopilot.StepNotAwaited`.

        Args:
            name: unique in the run, or in the step or item that this step is part of.
            key: tells several uses of one name apart: an integer, or any text of at most 1,500 bytes.
            retry: how often a raised exception is answered with another try, here and now, within the deadline.
            semantics: ``at_least_once``: if the instance dies in the body, a resume executes it again.
                ``at_most_once``: its start is recorded before the body begins, and if it is then cut off, by a crash
                or by ``timeout``, it is never begun again and :class:`~autopilot.StepInterrupted` is raised. A raised
                exception is a definite end, and may be retried. Only a person's retry of the run begins an
                interrupted step again.
            timeout: of one try, from when its body begins. A plain function cannot be stopped: it is left to itself
                and its result is dropped.
            returns: the result's type. Default: the body's return annotation; without one, any JSON value.

        Raises:
            StepFailed: the body raised, and is not tried again; :class:`~autopilot.StepTimeout` and
                :class:`~autopilot.StepInterrupted` are kinds of it.
            StepNameInvalid, StepNameReused: the name or key cannot be used.
            StepError: the body is not a function.
            JournalRequired: the workflow has a run log only.
        """
        steps = self._journalled("ctx.step")
        options = StepOptions(retry=retry, semantics=semantics, timeout=timeout, returns=returns)
        return steps.step(steps.use_key(name, key), body, args, kwargs, options)

    @overload
    def map(
        self,
        name: str,
        body: Callable[[ItemT], Awaitable[T]],
        items: Iterable[ItemT],
        /,
        *,
        max_concurrency: int = 10,
        completion: Completion = EVERY_ITEM,
        key: Callable[[ItemT], str | int] | None = None,
        retry: Retry = NO_RETRY,
        semantics: Semantics = "at_least_once",
        timeout: timedelta | None = None,
        returns: Any = None,
    ) -> Coroutine[Any, Any, MapResult[T]]: ...

    @overload
    def map(
        self,
        name: str,
        body: Callable[[ItemT], T],
        items: Iterable[ItemT],
        /,
        *,
        max_concurrency: int = 10,
        completion: Completion = EVERY_ITEM,
        key: Callable[[ItemT], str | int] | None = None,
        retry: Retry = NO_RETRY,
        semantics: Semantics = "at_least_once",
        timeout: timedelta | None = None,
        returns: Any = None,
    ) -> Coroutine[Any, Any, MapResult[T]]: ...

    def map(
        self,
        name: str,
        body: Callable[[ItemT], Any],
        items: Iterable[ItemT],
        /,
        *,
        max_concurrency: int = 10,
        completion: Completion = EVERY_ITEM,
        key: Callable[[ItemT], str | int] | None = None,
        retry: Retry = NO_RETRY,
        semantics: Semantics = "at_least_once",
        timeout: timedelta | None = None,
        returns: Any = None,
    ) -> Coroutine[Any, Any, MapResult[Any]]:
        """Execute ``body(item)`` as a step for each item, ``max_concurrency`` at once.

        Steps inside the body are part of their item. If some items fail or are left unfinished and ``completion``
        allows it, which ones is recorded too, so that a resume comes to the same result.

        Args:
            name: of the fan-out; an item's step is ``name[key]``.
            completion: when the whole is good enough; default: every item must succeed.
            key: gives an item's key. Default: its index, which must then mean the same item on a resume.
            retry, semantics, timeout, returns: of each item's step.

        Raises:
            MapFailed: the completion policy is out of reach; ``result`` has what every item came to.
        """
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency: it must be at least 1, not {max_concurrency}")
        steps = self._journalled("ctx.map")
        listed = list(items)
        own_key = steps.use_key(name, None)
        keys = [steps.use_key(name, index if key is None else key(item)) for index, item in enumerate(listed)]
        options = StepOptions(retry=retry, semantics=semantics, timeout=timeout, returns=returns)

        async def execute(index: int) -> Any:
            return await steps.step(keys[index], body, (listed[index],), {}, options)

        return steps.call(own_key, lambda: FanOut[Any](steps, own_key, keys, completion).run(execute, max_concurrency))

    @property
    def idempotency_key(self) -> str:
        """Within a step's body: a key for calls to other systems, the same in every try and attempt of this step.

        Raises:
            StepError: not within a step.
        """
        return self._journalled("ctx.idempotency_key").idempotency_key()

    def _journalled(self, call: str) -> StepRunner:
        if self._steps is not None:
            return self._steps
        if self._switch is None:
            raise JournalRequired(call)
        raise self._switch.stop(AttemptStopped(f"{call} needs a run that is recorded"))
