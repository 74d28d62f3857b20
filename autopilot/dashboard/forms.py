"""Forms that browsers send, and the filters in a page's URL."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import parse_qs

from pydantic import BeforeValidator, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from autopilot.api.access import CSRF_FIELD, Access
from autopilot.api.queries import QueryTime, RunQuery

MAX_FORM = 1024 * 1024
"""In bytes: a payload at its limit, percent-encoded."""

WAIT_SECONDS = 2.0
"""How long a form waits for the end of a run. The page that follows shows the rest."""


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; of several with the same name, the last.

    Raises:
        HTTPException: it is not a form, or too large.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise HTTPException(413, "the form is too large")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=2000, errors="strict")
    except ValueError as error:
        raise HTTPException(400, "the body is not a form") from error
    return {name: values[-1] for name, values in fields.items()}


async def read_checked_form(request: Request, access: Access) -> dict[str, str]:
    """The fields of a form that comes from a page of this session.

    Raises:
        RequestRefused: it does not.
    """
    form = await read_form(request)
    access.check_token(request, form.get(CSRF_FIELD))
    return form


def _in_utc(value: Any) -> Any:
    # The value of <input type="datetime-local"> has no time zone; its label says UTC.
    is_naive = isinstance(value, str) and len(value) in {16, 19} and value[10:11] == "T"
    return f"{value}Z" if is_naive else value


class HistoryFilter(RunQuery):
    """The filters in the URL of a page. An empty one does not restrict."""

    since: Annotated[QueryTime | None, BeforeValidator(_in_utc)] = None
    until: Annotated[QueryTime | None, BeforeValidator(_in_utc)] = None


def read_filter(query: Mapping[str, str]) -> tuple[HistoryFilter, str]:
    """The filter of a URL. If it is invalid, an empty filter and the reason."""
    try:
        return HistoryFilter.model_validate({name: value for name, value in query.items() if value}), ""
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return HistoryFilter(), f"{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}"
