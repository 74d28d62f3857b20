"""The pages of the dashboard, and what their forms do."""

import json
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from autopilot.api.access import CSRF_FIELD, AccessDenied
from autopilot.api.actions import FunctionRefusal, RunActions
from autopilot.api.context import ApiContext
from autopilot.api.door import route_path
from autopilot.api.errors import answer_exception
from autopilot.dashboard.forms import read_form
from autopilot.dashboard.history_pages import HistoryPages
from autopilot.dashboard.payload_form import PREFIX, form_fields, payload_of
from autopilot.dashboard.rendering import Renderer, local_path, redirect
from autopilot.dashboard.run_page import RunPages
from autopilot.errors import (
    AutopilotError,
    FunctionUnavailable,
    RunNotFound,
    RunStateConflict,
    StepNotFound,
    StoreError,
    WorkflowNotFound,
)

WAIT_SECONDS = 2.0
"""How long a form waits for the function's answer. The page that follows shows the rest."""

_NOT_FOUND = (WorkflowNotFound, RunNotFound, StepNotFound)

log = structlog.get_logger(__name__)


class Pages:
    """Everything that a browser is shown."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._access = context.access
        self._actions = RunActions(context)
        self._renderer = Renderer(context)
        self._history = HistoryPages(context, self._renderer)
        self._runs = RunPages(context, self._renderer)

    def routes(self) -> list[Route]:
        """The pages and the forms on them."""
        run = "/workflows/{name}/runs/{run_id}"
        return [
            Route("/", self._history.overview),
            Route("/runs", self._history.all_runs),
            Route("/workflows/{name}", self._history.workflow),
            Route("/workflows/{name}/trigger", self.trigger_form, methods=["GET"]),
            Route("/workflows/{name}/trigger", self.trigger, methods=["POST"]),
            Route(run, self._runs.show),
            Route(f"{run}/step", self._runs.step),
            Route(f"{run}/{{action:str}}", self.act, methods=["POST"]),
            Route("/sign-in", self.sign_in_form, methods=["GET"]),
            Route("/sign-in", self.sign_in, methods=["POST"]),
            Route("/sign-out", self.sign_out, methods=["POST"]),
        ]

    async def trigger_form(self, request: Request) -> Response:
        """The form for a new run; ``?of=`` fills it in with another run's payload."""
        payload: Mapping[str, Any] | None = None
        name = request.path_params["name"]
        if of := request.query_params.get("of"):
            payload = (await self._actions.find(name, of)).trigger_data
        return self._trigger_page(request, payload=payload)

    def _trigger_page(
        self,
        request: Request,
        *,
        payload: Mapping[str, Any] | None = None,
        text: str | None = None,
        problem: str = "",
        faults: Mapping[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        entry = self._context.catalog[request.path_params["name"]]
        fields = form_fields(entry.payload_schema, payload)
        as_json = fields is None or text is not None or request.query_params.get("as") == "json"
        return self._renderer.page(
            request,
            "trigger.html",
            status=status,
            entry=entry,
            fields=[] if as_json else fields,
            has_form=fields is not None,
            as_json=as_json,
            text=text if text is not None else json.dumps(payload or {}, ensure_ascii=False, indent=2),
            problem=problem,
            faults=faults or {},
            prefix=PREFIX,
            # A form that is sent twice starts one run.
            key=self._context.new_id(),
        )

    async def trigger(self, request: Request) -> Response:
        """Start a run with what was filled in."""
        form = await self._checked_form(request)
        entry = self._context.catalog[request.path_params["name"]]
        text = form.get("payload")
        payload: dict[str, Any] = {}
        if text is None:
            fields = form_fields(entry.payload_schema) or []
            payload, faults = payload_of(fields, form)
            if faults:
                return self._trigger_page(
                    request, payload=payload, problem="Some fields need another look.", faults=faults, status=422
                )
        content = (text if text is not None else json.dumps(payload)).encode()
        key = form.get("key") or None
        try:
            accepted = await self._actions.trigger(entry.manifest.name, content, key=key, wait=WAIT_SECONDS)
        except FunctionRefusal as refusal:
            faults = _faults_by_field(refusal.details)
            return self._trigger_page(
                request, payload=payload, text=text, problem=str(refusal), faults=faults, status=refusal.status
            )
        except FunctionUnavailable as error:
            return self._trigger_page(request, payload=payload, text=text, problem=str(error), status=502)
        return redirect(request, f"/workflows/{entry.manifest.name}/runs/{accepted.run_id}?did=trigger")

    async def act(self, request: Request) -> Response:
        """Retry, rerun, cancel or delete, and show what became of the run."""
        form = await self._checked_form(request)
        name, run_id = request.path_params["name"], request.path_params["run_id"]
        action = request.path_params["action"]
        try:
            match action:
                case "retry":
                    accepted = await self._actions.retry(name, run_id, wait=WAIT_SECONDS)
                case "cancel":
                    accepted = await self._actions.cancel(name, run_id, wait=WAIT_SECONDS)
                case "rerun":
                    key = form.get("key") or None
                    accepted = await self._actions.rerun(name, run_id, key=key, wait=WAIT_SECONDS)
                case "delete":
                    await self._actions.delete(name, run_id)
                    return redirect(request, f"/workflows/{name}?did=delete")
                case _:
                    raise HTTPException(404)
        except FunctionRefusal as refusal:
            return await self._runs.show(request, problem=str(refusal), status=refusal.status)
        except (FunctionUnavailable, RunStateConflict) as error:
            status = 409 if isinstance(error, RunStateConflict) else 502
            return await self._runs.show(request, problem=str(error), status=status)
        return redirect(request, f"/workflows/{name}/runs/{accepted.run_id}?did={action}")

    async def sign_in_form(self, request: Request) -> Response:
        """Ask for the key."""
        problem = "Your session has ended. Sign in to go on." if "ended" in request.query_params else ""
        return self._sign_in_page(request, request.query_params.get("next", "/"), problem)

    def _sign_in_page(self, request: Request, wanted: str, problem: str, status: int = 200) -> Response:
        if not self._access.needs_sign_in:
            return redirect(request, "/")
        return self._renderer.page(request, "sign_in.html", status=status, wanted=local_path(wanted), problem=problem)

    async def sign_in(self, request: Request) -> Response:
        """Let in who knows the key."""
        form = await read_form(request)
        wanted = local_path(form.get("next", "/"))
        try:
            self._access.check_token(request, form.get(CSRF_FIELD))
            await self._access.check_key(form.get("key", ""))
        except AccessDenied as denied:
            problem = "That is not the key." if denied.status == 401 else "This page was open for too long. Try again."
            return self._sign_in_page(request, wanted, problem, denied.status)
        response = redirect(request, wanted)
        self._access.sign_in(response)
        return response

    async def sign_out(self, request: Request) -> Response:
        """Forget the session."""
        await self._checked_form(request)
        response = redirect(request, "/sign-in")
        self._access.sign_out(response)
        return response

    async def _checked_form(self, request: Request) -> dict[str, str]:
        form = await read_form(request)
        self._access.check_token(request, form.get(CSRF_FIELD))
        return form

    async def show_error(self, request: Request, error: Exception) -> Response:
        """The page for what went wrong."""
        if route_path(request.scope).startswith("/api/"):  # what no mount takes: another version, a line break
            return answer_exception(error)
        match error:
            case StoreError():
                log.error("request_failed", path=request.url.path, status=503, error=str(error))
                return self._renderer.page(request, "store_away.html", status=503, reason=str(error))
            case AutopilotError() if isinstance(error, _NOT_FOUND):
                return self._error_page(request, 404, "There is nothing here", str(error))
            case AccessDenied():
                return self._error_page(request, error.status, "This was not done", str(error))
            case HTTPException():
                title = "There is nothing here" if error.status_code == 404 else "This cannot be done"
                return self._error_page(request, error.status_code, title, error.detail)
            case _:
                return self._error_page(request, 500, "Something is broken", "The log of the API function says what.")

    def _error_page(self, request: Request, status: int, title: str, message: str) -> Response:
        return self._renderer.page(request, "error.html", status=status, title=title, message=message)


def _faults_by_field(details: Any) -> dict[str, str]:
    faults: dict[str, str] = {}
    for fault in details if isinstance(details, list) else ():
        if isinstance(fault, dict) and fault.get("loc"):
            where = ".".join(str(part) for part in fault["loc"][1:])
            faults.setdefault(str(fault["loc"][0]), f"{where}: {fault.get('msg')}" if where else str(fault.get("msg")))
    return faults
