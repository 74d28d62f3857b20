"""The runs of a deployed API."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from autopilot.api.schemas import ErrorAnswer, ErrorBody, RunAccepted, RunDetail, RunPage, WorkflowPage
from autopilot.cli.exits import CommandFailed, ExitCode, refusal
from autopilot.core.store import RunFilter
from autopilot.models import is_run_id, is_workflow_name

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
_LONGEST_WAIT = 300
_NO_SUCH_PATH = {"", "not_found"}
"""The codes of a 404 that is not an API's: a foreign page, or a workflow's function."""
_REMEDIES = {
    401: "; set AUTOPILOT_API_KEY to the API's key",
    403: "; your account needs roles/run.invoker on the API's function; see `gcloud auth list`",
}

ModelT = TypeVar("ModelT", bound=BaseModel)


class ApiRuns:
    """A :class:`~autopilot.cli.run_source.RunSource` of API v1.

    Args:
        url: the API's base URL.
        credentials: gives the headers that authorize a request, at each request.
        transport: httpx's own, or a test's.
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: Callable[[], dict[str, str]] = dict,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.description = url.rstrip("/")
        self._credentials = credentials
        self._http = httpx.AsyncClient(
            base_url=f"{self.description}/api/v1",
            transport=transport,
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        )

    async def workflow_names(self) -> list[str]:
        page = await self._read(WorkflowPage, "GET", "/workflows")
        return sorted(workflow.name for workflow in page.workflows)

    async def find_runs(self, wanted: RunFilter, *, limit: int, start_after: str | None = None) -> RunPage:
        if wanted.workflow_id is not None and not is_workflow_name(wanted.workflow_id):
            raise CommandFailed(ExitCode.NOT_FOUND, f"{wanted.workflow_id!r} cannot be the name of a workflow")
        path = "/runs" if wanted.workflow_id is None else f"/workflows/{quote(wanted.workflow_id, safe='')}/runs"
        parameters = {
            "status": wanted.status,
            "trigger": wanted.trigger_type,
            "since": wanted.since and wanted.since.isoformat(),
            "until": wanted.until and wanted.until.isoformat(),
            "limit": limit,
            "start_after": start_after,
        }
        return await self._read(
            RunPage, "GET", path, params={name: value for name, value in parameters.items() if value is not None}
        )

    async def get_run(self, workflow: str, run_id: str) -> RunDetail | None:
        if not (is_workflow_name(workflow) and is_run_id(run_id)):
            return None  # as a part of a path, ".." would name something else
        try:
            return await self._read(RunDetail, "GET", _path(workflow, run_id))
        except CommandFailed as failure:
            if failure.code is ExitCode.NOT_FOUND:
                return None
            raise

    async def retry(
        self, workflow: str, run_id: str, *, wait: float, again_interrupted: Sequence[str] = ()
    ) -> RunAccepted:
        body = {"again_interrupted": list(again_interrupted)} if again_interrupted else None
        return await self._act(workflow, run_id, "retry", wait, body)

    async def rerun(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        return await self._act(workflow, run_id, "rerun", wait)

    async def cancel(self, workflow: str, run_id: str) -> RunAccepted:
        return await self._act(workflow, run_id, "cancel", _ANSWER_SECONDS / 2)

    async def close(self) -> None:
        await self._http.aclose()

    async def _act(
        self, workflow: str, run_id: str, action: str, wait: float, body: dict[str, Any] | None = None
    ) -> RunAccepted:
        seconds = min(_LONGEST_WAIT, int(wait))
        return await self._read(
            RunAccepted,
            "POST",
            f"{_path(workflow, run_id)}/{action}",
            headers={"Prefer": f"wait={seconds}"},
            json=body,
            timeout=httpx.Timeout(seconds + _ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        )

    async def _read(
        self, model: type[ModelT], method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> ModelT:
        try:
            answer = await self._http.request(method, path, headers=self._credentials() | (headers or {}), **options)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise CommandFailed(ExitCode.NOT_SERVED, f"{self.description} does not answer: {reason}") from None
        if not answer.is_success:
            raise self._failure(answer)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError:
            raise CommandFailed(
                ExitCode.NOT_SERVED,
                f"{self.description} is not an Autopilot API: unexpected answer to {method} {answer.url.path}",
            ) from None

    def _failure(self, answer: httpx.Response) -> CommandFailed:
        error = error_of(answer)
        if answer.status_code == 404 and error.code in _NO_SUCH_PATH:
            message = f"{self.description} is not an Autopilot API: it has no {answer.url.path}"
            return CommandFailed(ExitCode.NOT_SERVED, message)
        remedy = _REMEDIES.get(answer.status_code, "")
        message = f"{self.description}: {error.message}{remedy}"
        return refusal(answer.status_code, error.code, message, error.details)


def error_of(answer: httpx.Response) -> ErrorBody:
    """The error in an answer of an API or a function; one without a code if it is anybody else's answer."""
    try:
        return ErrorAnswer.model_validate_json(answer.content).error
    except ValidationError:
        return ErrorBody(code="", message=f"{answer.status_code} {answer.reason_phrase}")


def _path(workflow: str, run_id: str) -> str:
    return f"/workflows/{quote(workflow, safe='')}/runs/{quote(run_id, safe='')}"
