"""The runs behind a deployed API."""

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from autopilot.api.schemas import ErrorAnswer, ErrorBody, RunAccepted, RunDetail, RunPage, WorkflowPage
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.core.store import RunFilter

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
_LONGEST_WAIT = 300
_CODES = {
    401: ExitCode.REFUSED,
    403: ExitCode.REFUSED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.WRONG_STATE,
    413: ExitCode.WRONG_USE,
    422: ExitCode.WRONG_USE,
}
_NOWHERE = {"", "not_found"}
"""The code of a 404 at an address that is no API's: none, or that of a function."""
_HINTS = {
    401: "set AUTOPILOT_API_KEY to the API's key",
    403: "your account needs roles/run.invoker on the API's function; see `gcloud auth list`",
}

ModelT = TypeVar("ModelT", bound=BaseModel)


class ApiRuns:
    """Runs as API v1 at ``url`` tells of them.

    Args:
        url: where the API's function is; paths begin behind it.
        headers: gives what the caller is known by, at each call.
        transport: httpx's own, or a test's.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Callable[[], dict[str, str]] = dict,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = headers
        self._http = httpx.AsyncClient(
            base_url=f"{self._url}/api/v1",
            transport=transport,
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        )

    @property
    def described(self) -> str:
        return self._url

    async def workflow_names(self) -> list[str]:
        page = await self._read(WorkflowPage, "GET", "/workflows")
        return sorted(workflow.name for workflow in page.workflows)

    async def find_runs(self, wanted: RunFilter, *, limit: int, start_after: str | None = None) -> RunPage:
        path = "/runs" if wanted.workflow_id is None else f"/workflows/{quote(wanted.workflow_id, safe='')}/runs"
        asked = {
            "status": wanted.status,
            "trigger": wanted.trigger_type,
            "since": wanted.since and wanted.since.isoformat(),
            "until": wanted.until and wanted.until.isoformat(),
            "limit": limit,
            "start_after": start_after,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        return await self._read(RunPage, "GET", path, params=given)

    async def get_run(self, workflow: str, run_id: str) -> RunDetail | None:
        try:
            return await self._read(RunDetail, "GET", _path(workflow, run_id))
        except CommandFailed as failure:
            if failure.code is ExitCode.NOT_FOUND:
                return None
            raise

    async def retry(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        return await self._act(workflow, run_id, "retry", wait)

    async def rerun(self, workflow: str, run_id: str, *, wait: float) -> RunAccepted:
        return await self._act(workflow, run_id, "rerun", wait)

    async def cancel(self, workflow: str, run_id: str) -> RunAccepted:
        return await self._act(workflow, run_id, "cancel", _ANSWER_SECONDS / 2)

    async def close(self) -> None:
        await self._http.aclose()

    async def _act(self, workflow: str, run_id: str, action: str, wait: float) -> RunAccepted:
        seconds = min(_LONGEST_WAIT, int(wait))
        return await self._read(
            RunAccepted,
            "POST",
            f"{_path(workflow, run_id)}/{action}",
            headers={"Prefer": f"wait={seconds}"},
            timeout=httpx.Timeout(seconds + _ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        )

    async def _read(
        self, model: type[ModelT], method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> ModelT:
        try:
            answer = await self._http.request(method, path, headers=self._headers() | (headers or {}), **options)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise CommandFailed(ExitCode.NOT_SERVED, f"{self._url} does not answer: {reason}") from None
        if not answer.is_success:
            raise self._refusal(answer)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError:
            raise CommandFailed(
                ExitCode.NOT_SERVED,
                f"{self._url} is no API of Autopilot's: {method} {answer.url.path} is not its answer",
            ) from None

    def _refusal(self, answer: httpx.Response) -> CommandFailed:
        code = _CODES.get(answer.status_code, ExitCode.NOT_SERVED)
        try:
            error = ErrorAnswer.model_validate_json(answer.content).error
        except ValidationError:  # not ours: the platform's own page
            error = ErrorBody(code="", message=f"{answer.status_code} {answer.reason_phrase}")
        told = error.message
        if answer.status_code == 404 and error.code in _NOWHERE:
            code, told = ExitCode.NOT_SERVED, f"this is no API of Autopilot's: there is nothing at {answer.url.path}"
        hint = _HINTS.get(answer.status_code)
        return CommandFailed(code, f"{self._url}: {told}" + (f"; {hint}" if hint else ""))


def _path(workflow: str, run_id: str) -> str:
    return f"/workflows/{quote(workflow, safe='')}/runs/{quote(run_id, safe='')}"
