"""The runs on this machine: read from the store of the settings, acted on by functions that are served meanwhile."""

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path

from autopilot.api.access import Access
from autopilot.api.actions import RunActions
from autopilot.api.catalog import WorkflowCatalog
from autopilot.api.context import ApiContext
from autopilot.api.run_detail import run_detail
from autopilot.api.schemas import RunAccepted, RunDetail, RunPage, summary_of
from autopilot.api.workflow_client import WorkflowClient
from autopilot.cli.bundle import defines_workflow, load_bundle
from autopilot.cli.exits import CommandFailed, ExitCode, refusal
from autopilot.cli.main_module import function_names
from autopilot.core.clock import SystemClock, random_id
from autopilot.core.run_log import get_run_archive, get_run_log_service, process_store, reset_run_log_service
from autopilot.core.store import RunFilter
from autopilot.development.function_server import FunctionServer
from autopilot.development.local_store import kept_in
from autopilot.errors import FunctionUnavailable, RunNotFound, StoreError
from autopilot.function.trigger import RequestRefused
from autopilot.models import is_workflow_name
from autopilot.observability import log_file_of
from autopilot.settings import Settings

_UNTIL_THE_END = 24 * 3600.0


class LocalRuns:
    """A :class:`~autopilot.cli.run_source.RunSource` of this machine.

    Args:
        settings: name the store.
        source: the bundle's ``main.py``. Only actions need it: their workflow's own function is served from it.
    """

    def __init__(self, settings: Settings, source: Path) -> None:
        self.description = kept_in(settings)
        self._settings = settings
        self._source = source
        self._servers: dict[str, FunctionServer] = {}

    async def workflow_names(self) -> list[str]:
        latest = await self.find_runs(RunFilter(), limit=200)
        return sorted({run.workflow_id for run in latest.runs} | self._names_in_source())

    async def find_runs(self, wanted: RunFilter, *, limit: int, start_after: str | None = None) -> RunPage:
        page = RunPage(runs=[], next_cursor=None)
        if self._has_history:
            runs, cursor = await get_run_archive().find_runs(wanted, limit=limit, start_after=start_after)
            page = RunPage(runs=[summary_of(run) for run in runs], next_cursor=cursor)
        name = wanted.workflow_id
        if not (page.runs or name is None or name in await self.workflow_names() or self._defines(name)):
            raise CommandFailed(
                ExitCode.NOT_FOUND,
                f"unknown workflow {name!r}: {self._source} does not define it, and it has no runs in "
                f"{self.description}",
            )
        return page

    async def get_run(self, workflow: str, run_id: str) -> RunDetail | None:
        if not self._has_history:
            return None
        run, steps = await asyncio.gather(
            get_run_log_service().get_run(workflow, run_id), get_run_archive().get_run_steps(workflow, run_id)
        )
        return None if run is None else run_detail(run, steps, self._settings)

    async def retry(
        self, workflow: str, run_id: str, *, wait: float, again_interrupted: Sequence[str] = ()
    ) -> RunAccepted:
        action = self._actions(workflow).retry(
            workflow, run_id, wait=_UNTIL_THE_END, again_interrupted=again_interrupted
        )
        return await self._answer(workflow, action)

    async def rerun(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        actions = self._actions(workflow)
        return await self._answer(workflow, actions.rerun(workflow, run_id, key=None, wait=_UNTIL_THE_END))

    async def cancel(self, workflow: str, run_id: str) -> RunAccepted:
        return await self._answer(workflow, self._actions(workflow).cancel(workflow, run_id, wait=_UNTIL_THE_END))

    async def close(self) -> None:
        for server in self._servers.values():
            server.stop()
        self._servers.clear()
        reset_run_log_service()

    @property
    def _has_history(self) -> bool:
        """False before the first run: reading must not create the database."""
        return self._settings.store != "sqlite" or self._settings.sqlite_path.exists()

    async def _answer(self, workflow: str, action: Awaitable[RunAccepted]) -> RunAccepted:
        try:
            return await action
        except RequestRefused as refused:
            raise refusal(refused.status, refused.code, str(refused), refused.details) from None
        except RunNotFound as error:
            raise CommandFailed(ExitCode.NOT_FOUND, str(error)) from None
        except (FunctionUnavailable, StoreError) as error:
            log = self._servers[workflow].log_text()
            raise CommandFailed(ExitCode.NOT_SERVED, f"{error}\n{log}".rstrip()) from None

    def _actions(self, workflow: str) -> RunActions:
        workflows = load_bundle(self._source).workflows
        bundled = {each.manifest.name: (function, each) for function, each in workflows.items()}
        if workflow not in bundled:
            raise CommandFailed(
                ExitCode.NOT_FOUND,
                f"{self._source} does not define workflow {workflow}, and only its own code can act on its runs",
            )
        function, workflow_class = bundled[workflow]
        if workflow not in self._servers:
            self._servers[workflow] = local_server(function, self._source, self._settings).start()
        clock = SystemClock()
        return RunActions(
            ApiContext(
                settings=self._settings,
                catalog=WorkflowCatalog([workflow_class()]),
                run_log=get_run_log_service,
                archive=get_run_archive,
                client=WorkflowClient({workflow: self._servers[workflow].url}),
                access=Access(self._settings, clock, process_store),
                clock=clock,
                new_id=random_id,
            )
        )

    def _defines(self, workflow: str) -> bool:
        # Not all of it is in the text: a workflow can have another name than its function, or its line be in a loop.
        return self._source.is_file() and defines_workflow(self._source, workflow)

    def _names_in_source(self) -> set[str]:
        # main.py is not imported: runs can be read while the code is broken.
        try:
            names = function_names(self._source.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return set()
        return {name for name in names if is_workflow_name(name)}


def local_server(
    function: str, source: Path, settings: Settings, *, port: int | None = None, capture: bool = True
) -> FunctionServer:
    """A server, not started yet, of one of the bundle's functions; `autopilot logs` can read what it logs."""
    env = {"AUTOPILOT_LOG_FILE": str(log_file_of(settings))}
    return FunctionServer(function, source=source, port=port, env=env, capture=capture)
