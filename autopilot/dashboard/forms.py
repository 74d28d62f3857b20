"""Forms that browsers send."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import parse_qs

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from autopilot.api.reads import QueryTime
from autopilot.core.store import RunFilter
from autopilot.models import RunStatus, TriggerType

MAX_FORM = 1024 * 1024
"""Bytes: a payload at its limit, percent-encoded."""


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; of several with one name, the last.

    Raises:
        HTTPException: it is no form, or too large.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise HTTPException(413, "the form is too large")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=1000, errors="strict")
    except ValueError as error:
        raise HTTPException(400, "this is no form") from error
    return {name: values[-1] for name, values in fields.items()}


def _in_utc(value: Any) -> Any:
    # What <input type="datetime-local"> gives has no zone; its label says UTC.
    is_naive = isinstance(value, str) and len(value) in {16, 19} and value[10:11] == "T"
    return f"{value}Z" if is_naive else value


class HistoryFilter(BaseModel):
    """The filters of a history as they live in the page's URL. What is empty does not restrict."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: RunStatus | None = None
    trigger: TriggerType | None = None
    since: Annotated[QueryTime | None, BeforeValidator(_in_utc)] = None
    until: Annotated[QueryTime | None, BeforeValidator(_in_utc)] = None

    def wanted(self, workflow: str | None) -> RunFilter:
        """What the store is asked for."""
        return RunFilter(
            workflow_id=workflow,
            status=self.status,
            trigger_type=self.trigger,
            since=self.since,
            until=self.until,
        )


def read_filter(query: Mapping[str, str]) -> tuple[HistoryFilter, str]:
    """The filter of a URL and, when it cannot be used, why; then it does not restrict."""
    try:
        read = HistoryFilter.model_validate({name: value for name, value in query.items() if value})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        return HistoryFilter(), f"{fault['loc'][0]}: {fault['msg']}"
    if read.since is not None and read.until is not None and read.until <= read.since:
        return HistoryFilter(), "until: it must be after since"
    return read, ""
