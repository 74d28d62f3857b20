"""A workflow's HTTP function, as the command talks to it."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import BaseModel, ConfigDict

from autopilot.models import WorkflowRun


class WorkflowTotals(BaseModel):
    """What ``GET /`` tells of the run log, in the fields that a person is shown."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    total_runs: int
    success_rate: float
    last_run: WorkflowRun | None = None
    by_status: dict[str, int] = {}
    stale: bool = False


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """The answer to a run that was asked for."""

    http_status: int
    run: WorkflowRun | None
    """None when there is none: the payload was refused, or nothing could be run."""
    persisted: bool
    message: str
    """What the function says when there is no run."""


class FunctionClient:
    """One function's client: a context manager. Errors of the transport are httpx's."""

    def __init__(self, url: str) -> None:
        # A run takes as long as it takes. Proxies are for the world outside this machine.
        self._http = httpx.Client(base_url=url, timeout=httpx.Timeout(10.0, read=None), trust_env=False)

    def ask_for_run(self, body: bytes) -> RunAnswer:
        """POST one run and wait for its answer."""
        answer = self._http.post("/", content=body, headers={"Content-Type": "application/json"})
        run_id = answer.headers.get("Autopilot-Run-Id")
        persisted = answer.headers.get("Autopilot-Persisted") == "true"
        if run_id is None:
            return RunAnswer(answer.status_code, None, persisted, _message(answer))
        said = _json(answer)
        if not _is_run(said, run_id):  # the workflow answers with its result alone
            said = _json(self._http.get(f"/runs/{run_id}"))
        run = WorkflowRun.model_validate(said) if _is_run(said, run_id) else None
        return RunAnswer(answer.status_code, run, persisted, f"run {run_id} is not in the run log")

    def read_totals(self) -> WorkflowTotals:
        """What the run log knows of the workflow now."""
        answer = self._http.get("/")
        answer.raise_for_status()
        return WorkflowTotals.model_validate_json(answer.content)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()


def _is_run(said: Any, run_id: str) -> bool:
    return isinstance(said, dict) and said.get("id") == run_id and "workflow_id" in said


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _message(answer: httpx.Response) -> str:
    said = _json(answer)
    error = said.get("error") if isinstance(said, dict) else None
    if isinstance(error, dict) and "message" in error:
        return str(error["message"])
    return f"the function answered {answer.status_code} {answer.reason_phrase}"
