"""The form that starts a run."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from autopilot.api.actions import RunActions, require_defined
from autopilot.api.context import ApiContext
from autopilot.api.queries import find_run, find_workflow
from autopilot.dashboard.forms import WAIT_SECONDS, read_checked_form
from autopilot.dashboard.payload_form import PREFIX, form_fields, payload_of
from autopilot.dashboard.rendering import Renderer, redirect
from autopilot.errors import FunctionUnavailable
from autopilot.function.trigger import RequestRefused


class TriggerPages:
    """The form for a payload, made from its JSON Schema, or the JSON itself."""

    def __init__(self, context: ApiContext, renderer: Renderer) -> None:
        self._context = context
        self._actions = RunActions(context)
        self._renderer = renderer

    async def show(self, request: Request) -> Response:
        """The empty form; with ``?of=`` filled in with another run's payload."""
        payload: Mapping[str, Any] | None = None
        if of := request.query_params.get("of"):
            _, run = await find_run(self._context, request.path_params["name"], of)
            payload = run.trigger_data
        return await self._page(request, payload=payload)

    async def submit(self, request: Request) -> Response:
        """Start a run with the payload from the form."""
        form = await read_checked_form(request, self._context.access)
        entry = await find_workflow(self._context, request.path_params["name"])
        text = form.get("payload")
        payload: dict[str, Any] = {}
        if text is None:
            payload, errors = payload_of(form_fields(entry.payload_schema) or [], form)
            if errors:
                problem = "Please correct the marked fields."
                return await self._page(request, payload=payload, problem=problem, errors=errors, status=422)
        content = (text if text is not None else json.dumps(payload)).encode()
        try:
            accepted = await self._actions.trigger(entry.name, content, key=form.get("key") or None, wait=WAIT_SECONDS)
        except RequestRefused as refused:
            errors = _errors_by_field(refused.details)
            return await self._page(
                request, payload=payload, text=text, problem=str(refused), errors=errors, status=refused.status
            )
        except FunctionUnavailable as error:
            return await self._page(request, payload=payload, text=text, problem=str(error), status=502)
        return redirect(request, f"/workflows/{entry.name}/runs/{accepted.run_id}?did=trigger")

    async def _page(
        self,
        request: Request,
        *,
        payload: Mapping[str, Any] | None = None,
        text: str | None = None,
        problem: str = "",
        errors: Mapping[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        entry = await find_workflow(self._context, request.path_params["name"])
        require_defined(entry)
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
            errors=errors or {},
            prefix=PREFIX,
            # A form that is sent twice starts one run.
            key=self._context.new_id(),
        )


def _errors_by_field(details: Any) -> dict[str, str]:
    """Pydantic's errors by the payload's field, the first of each."""
    errors: dict[str, str] = {}
    for error in details if isinstance(details, list) else ():
        if isinstance(error, dict) and error.get("loc"):
            where = ".".join(str(part) for part in error["loc"][1:])
            errors.setdefault(str(error["loc"][0]), f"{where}: {error.get('msg')}" if where else str(error.get("msg")))
    return errors
