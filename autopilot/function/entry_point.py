"""From a workflow to a Cloud Function."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import cast

import functions_framework.aio
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from autopilot.base_workflow import engine_of
from autopilot.bundle import load_workflow
from autopilot.core import run_log as run_log_module
from autopilot.core.clock import Clock, SystemClock, random_id
from autopilot.core.deadline import STORE_SECONDS, store_call, store_seconds
from autopilot.core.engine import Engine
from autopilot.core.outcome import Ended, Outcome, Replayed
from autopilot.core.recorder import reason_of
from autopilot.core.run_log import read_past
from autopilot.core.runs.history import success_rate
from autopilot.core.shutdown import PROCESS_SHUTDOWN
from autopilot.errors import AutopilotError, RunNotFound, SettingsInvalid, WorkflowInvalid
from autopilot.function.answers import (
    answer_cancelled,
    answer_continued,
    answer_error,
    answer_run,
    error_response,
    json_response,
)
from autopilot.function.senders import check_sender
from autopilot.function.trigger import RequestRefused, read_confirmation, read_trigger
from autopilot.observability import configure_logging, request_context
from autopilot.settings import Settings, function_target, load_settings

DESCRIBE_SECONDS = 3.0
"""How long a description waits for the run log before it answers from this instance's memory."""

Function = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger(__name__)


def entry_point(workflow_path: str, *, name: str | None = None) -> Function:
    """Make a workflow a Cloud Function.

    In ``main.py``::

        uptime_check = entry_point("functions.uptime_check:UptimeCheck")

    The function is registered with functions-framework, which serves it with and without ``--asgi``. Only the
    function that is being served (``FUNCTION_TARGET``) imports its workflow at once, with logging configured and the
    settings checked; for every other one in the same ``main.py`` nothing is imported.

    Args:
        workflow_path: ``"module:Class"``.
        name: the function's name, which must be that of the variable it is assigned to, since that is how
            functions-framework finds it. Default: the last part of the module's name.

    Returns:
        An async function from a Starlette request to its response. ``workflow_path`` is kept as an attribute.

    Raises:
        WorkflowInvalid: the path is malformed, or (of the served function) names no workflow.
        SettingsInvalid: of the served function: the settings cannot work here.
    """
    module, separator, class_name = workflow_path.partition(":")
    if not (separator and module and class_name):
        raise WorkflowInvalid(workflow_path, "a workflow is named as in 'functions.uptime_check:UptimeCheck'")
    served = WorkflowFunction(workflow_path)

    async def function(request: Request) -> Response:
        return await served(request)

    function.__name__ = function.__qualname__ = name or module.rpartition(".")[2]
    function.__doc__ = f"Cloud Function of the workflow {workflow_path}."
    registered = cast("Function", functions_framework.aio.http(function))
    vars(registered)["workflow_path"] = workflow_path
    if function_target() == function.__name__:
        served.load()
    return registered


class WorkflowFunction:
    """The HTTP face of one workflow; loaded at first use."""

    def __init__(self, workflow_path: str, *, clock: Clock | None = None) -> None:
        self._path = workflow_path
        self._clock = clock or SystemClock()

    def load(self) -> None:
        """Import the workflow and check the settings now rather than at the first request."""
        configure_logging(self._settings)
        _ = self._engine

    @cached_property
    def _settings(self) -> Settings:
        return load_settings()

    @cached_property
    def _engine(self) -> Engine:
        return engine_of(load_workflow(self._path)())

    async def __call__(self, request: Request) -> Response:
        """Answer one request, whatever happens."""
        try:
            settings = self._settings
        except SettingsInvalid as error:
            return answer_error(error)
        with request_context(request.headers, settings):
            try:
                check_sender(request.headers, settings)
                PROCESS_SHUTDOWN.install()
                return await self._route(request)
            except RequestRefused as refused:
                return error_response(refused.status, refused.code, str(refused))
            except ClientDisconnect:
                return error_response(400, "client_disconnected", "the request ended before its body did")
            except AutopilotError as error:
                answer = answer_error(error)
                if answer.status_code >= 500:
                    # One line without a traceback: the message of an error of ours says all there is to it.
                    log.error("request_failed", path=_path(request), status=answer.status_code, error=str(error))  # noqa: TRY400
                return answer
            except Exception:  # the process boundary: no traceback leaves, and none is lost
                log.exception("request_failed", path=_path(request), status=500)
                return error_response(500, "internal", "the request could not be handled; the log says why")

    async def _route(self, request: Request) -> Response:
        match _path(request).strip("/").split("/"):
            case [""]:
                return await _by_method(request, GET=self._describe, POST=lambda: self._run(request))
            case ["runs", run_id]:
                return await _by_method(request, GET=lambda: self._show_run(run_id))
            case ["runs", run_id, "continue"]:
                return await _by_method(request, POST=lambda: self._resume(run_id))
            case ["runs", run_id, "retry"]:
                return await _by_method(request, POST=lambda: self._retry(request, run_id))
            case ["runs", run_id, "cancel"]:
                return await _by_method(request, POST=lambda: self._cancel(run_id))
            case _:
                return error_response(404, "not_found", "there is nothing at this path")

    async def _run(self, request: Request) -> Response:
        asked = await read_trigger(request, self._clock.now())
        outcome = await self._engine.invoke(
            asked.type,
            asked.payload,
            trigger=asked.trigger,
            require_start=asked.trigger.identity is not None or self._engine.manifest.durability == "required",
            request_timeout_seconds=self._settings.request_timeout_seconds,
        )
        return self._answer(outcome)

    async def _resume(self, run_id: str) -> Response:
        outcome = await self._engine.resume(run_id, request_timeout_seconds=self._settings.request_timeout_seconds)
        if isinstance(outcome, Replayed | Ended) and outcome.run.status.is_terminal and outcome.persisted:
            return answer_continued(outcome)
        return self._answer(outcome)

    async def _retry(self, request: Request, run_id: str) -> Response:
        outcome = await self._engine.retry(
            run_id,
            again_interrupted=await read_confirmation(request),
            request_timeout_seconds=self._settings.request_timeout_seconds,
        )
        return self._answer(outcome)

    async def _cancel(self, run_id: str) -> Response:
        manifest = self._engine.manifest
        async with self._store_call("archive", f"cancelling run {run_id}"):
            run = await run_log_module.get_run_archive().request_cancel(
                manifest.name, run_id, owner=random_id(), retention=manifest.retention
            )
        if run is None:
            raise RunNotFound(manifest.name, run_id)
        log.info("workflow_run_cancel_requested", workflow=manifest.name, run_id=run.id)
        return answer_cancelled(run)

    def _answer(self, outcome: Outcome) -> Response:
        interruption = outcome.interruption if isinstance(outcome, Ended) else None
        if interruption is not None and not _is_own_cancellation(interruption):
            raise interruption
        return answer_run(outcome, self._engine.manifest, self._clock.now())

    async def _describe(self) -> Response:
        engine, stale = self._engine, False
        try:
            async with self._store_call("run log", "reading the past", seconds=DESCRIBE_SECONDS):
                stats, last_run = await read_past(run_log_module.get_run_log_service(), engine.manifest.name)
        except Exception as error:  # noqa: BLE001 - the process boundary: without the run log, memory still answers
            log.warning("run_log_away", workflow=engine.manifest.name, error=reason_of(error))
            stats, last_run, stale = engine.history.stats, engine.history.last_run, True
        return json_response(
            {
                "manifest": engine.manifest,
                "payload_schema": engine.schema.payload_json_schema(),
                "total_runs": stats["total"],
                "success_rate": success_rate(stats),
                "by_status": stats["by_status"],
                "last_run": last_run,
                "stale": stale,
            }
        )

    async def _show_run(self, run_id: str) -> Response:
        async with self._store_call("run log", f"reading run {run_id}"):
            run = await run_log_module.get_run_log_service().get_run(self._engine.manifest.name, run_id)
        if run is None:
            return error_response(404, "run_not_found", "this workflow has no such run")
        return json_response(run)

    def _store_call(
        self, store: str, doing: str, *, seconds: float = STORE_SECONDS
    ) -> AbstractAsyncContextManager[None]:
        """Limit a store call to ``seconds`` or to its share of the request's time, whichever is less."""
        timeout = min(self._engine.manifest.timeout_seconds, self._settings.request_timeout_seconds or math.inf)
        return store_call(self._clock, min(seconds, store_seconds(timeout)), store, doing)


def _path(request: Request) -> str:
    path: str = request.scope["path"]  # not of the URL, which begins with what the caller says the host is
    return path


def _is_own_cancellation(interruption: BaseException) -> bool:
    """Return True if the workflow's code raised the cancellation, as by awaiting a task that it cancelled."""
    task = asyncio.current_task()
    return isinstance(interruption, asyncio.CancelledError) and task is not None and not task.cancelling()


async def _by_method(request: Request, **handlers: Callable[[], Awaitable[Response]]) -> Response:
    method = "GET" if request.method == "HEAD" else request.method
    if (handle := handlers.get(method)) is not None:
        return await handle()
    allowed = ", ".join(handlers)
    return error_response(405, "method_not_allowed", f"this path takes {allowed}", headers={"Allow": allowed})
