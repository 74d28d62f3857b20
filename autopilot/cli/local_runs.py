"""The runs of this machine: the store that the settings name, and functions that are served while they are needed."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from autopilot.api.access import Access
from autopilot.api.actions import RunActions
from autopilot.api.catalog import WorkflowCatalog
from autopilot.api.context import ApiContext
from autopilot.api.run_detail import run_detail
from autopilot.api.schemas import RunAccepted, RunDetail, RunPage, summary_of
from autopilot.api.workflow_client import WorkflowClient
from autopilot.cli.bundle import load_bundle
from autopilot.cli.environment import function_variables
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.cli.main_module import MainModuleUnreadable, functions_in
from autopilot.core.clock import SystemClock, random_id
from autopilot.core.run_log import get_run_archive, get_run_log_service, reset_run_log_service
from autopilot.core.store import RunFilter
from autopilot.development.function_server import FunctionServer
from autopilot.development.local_store import kept_in
from autopilot.errors import AutopilotError, FunctionNotServed, FunctionUnavailable, RunNotFound, StoreError
from autopilot.function.trigger import RequestRefused
from autopilot.models import is_workflow_name
from autopilot.settings import Settings

_UNTIL_THE_END = 24 * 3600.0

T = TypeVar("T")


class LocalRuns:
    """Runs in the store of the settings. What acts is asked of the workflow's own function, served for that.

    Args:
        settings: of this machine.
        source: the bundle's ``main.py``. Looking does without it.
    """

    def __init__(self, settings: Settings, source: Path) -> None:
        self._settings = settings
        self._source = source
        self._servers: dict[str, FunctionServer] = {}

    @property
    def described(self) -> str:
        return kept_in(self._settings)

    async def workflow_names(self) -> list[str]:
        latest = await self.find_runs(RunFilter(), limit=200)
        return sorted({run.workflow_id for run in latest.runs} | self._named_in_source())

    async def find_runs(self, wanted: RunFilter, *, limit: int, start_after: str | None = None) -> RunPage:
        page = await self._page(wanted, limit, start_after) if self._is_begun else RunPage(runs=[], next_cursor=None)
        if not page.runs and wanted.workflow_id is not None and wanted.workflow_id not in await self.workflow_names():
            raise CommandFailed(
                ExitCode.NOT_FOUND,
                f"{self._source} names no workflow {wanted.workflow_id!r}, and none has run in {self.described}",
            )
        return page

    async def get_run(self, workflow: str, run_id: str) -> RunDetail | None:
        if not self._is_begun:
            return None
        with _store_errors_told():
            run, steps = await asyncio.gather(
                get_run_log_service().get_run(workflow, run_id), get_run_archive().get_run_steps(workflow, run_id)
            )
        return None if run is None else run_detail(run, steps, self._settings)

    async def retry(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        return await self._asked(workflow, self._actions(workflow).retry(workflow, run_id, wait=_UNTIL_THE_END))

    async def rerun(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        actions = self._actions(workflow)
        return await self._asked(workflow, actions.rerun(workflow, run_id, key=None, wait=_UNTIL_THE_END))

    async def cancel(self, workflow: str, run_id: str) -> RunAccepted:
        return await self._asked(workflow, self._actions(workflow).cancel(workflow, run_id, wait=_UNTIL_THE_END))

    async def close(self) -> None:
        for server in self._servers.values():
            server.stop()
        self._servers.clear()
        reset_run_log_service()

    async def _page(self, wanted: RunFilter, limit: int, start_after: str | None) -> RunPage:
        with _store_errors_told():
            runs, cursor = await get_run_archive().find_runs(wanted, limit=limit, start_after=start_after)
        return RunPage(runs=[summary_of(run) for run in runs], next_cursor=cursor)

    @property
    def _is_begun(self) -> bool:
        """Whether there is a history: a look at it leaves no new file behind."""
        return self._settings.store != "sqlite" or self._settings.sqlite_path.exists()

    async def _asked(self, workflow: str, answer: Awaitable[RunAccepted]) -> RunAccepted:
        try:
            return await answer
        except RequestRefused as refusal:
            raise CommandFailed(_CODES.get(refusal.status, ExitCode.NOT_SERVED), str(refusal)) from None
        except RunNotFound as error:
            raise CommandFailed(ExitCode.NOT_FOUND, str(error)) from None
        except (FunctionUnavailable, StoreError) as error:
            log = self._servers[workflow].log_text()
            raise CommandFailed(ExitCode.NOT_SERVED, f"{error}\n{log}".rstrip()) from None

    def _actions(self, workflow: str) -> RunActions:
        bundled = {each.manifest.name: (name, each) for name, each in load_bundle(self._source).workflows.items()}
        if workflow not in bundled:
            raise CommandFailed(
                ExitCode.NOT_FOUND, f"{self._source} has no workflow {workflow}; its function is needed to act on a run"
            )
        function, workflow_class = bundled[workflow]
        server = self._served(workflow, function)
        clock = SystemClock()
        context = ApiContext(
            settings=self._settings,
            catalog=WorkflowCatalog([workflow_class()]),
            run_log=get_run_log_service,
            archive=get_run_archive,
            client=WorkflowClient({workflow: server.url}),
            access=Access(self._settings, clock),
            clock=clock,
            new_id=random_id,
        )
        return RunActions(context)

    def _served(self, workflow: str, function: str) -> FunctionServer:
        if workflow not in self._servers:
            env = function_variables(self._settings)
            try:
                self._servers[workflow] = FunctionServer(function, source=self._source, env=env).start()
            except FunctionNotServed as error:
                raise CommandFailed(ExitCode.NOT_SERVED, str(error)) from None
        return self._servers[workflow]

    def _named_in_source(self) -> set[str]:
        # Without importing it: what went wrong can be looked at while the code is broken.
        try:
            names = functions_in(self._source.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, MainModuleUnreadable):
            return set()
        return {name for name in names if is_workflow_name(name)}


_CODES = {404: ExitCode.NOT_FOUND, 409: ExitCode.WRONG_STATE, 422: ExitCode.WRONG_USE}


@contextmanager
def _store_errors_told() -> Iterator[None]:
    try:
        yield
    except AutopilotError as error:
        raise CommandFailed(ExitCode.NOT_SERVED, str(error)) from None
