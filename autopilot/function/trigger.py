"""From an HTTP request to a trigger: what kind it is, which one it is, and its payload."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.requests import Request

from autopilot.core.runs.limits import PAYLOAD_LIMIT
from autopilot.errors import PayloadTooLarge
from autopilot.models import Trigger, TriggerType, is_run_id

SCHEDULE_HEADER = "autopilot-schedule"
"""The name of the manifest's schedule, put on a Scheduler job's request when it is provisioned."""

TRIGGER_HEADER = "autopilot-trigger"
"""``manual``: a person asks, through the dashboard or the command."""

RERUN_HEADER = "autopilot-rerun-of"
"""The id of the run whose payload this is sent again with."""

EARLIEST_TICK = timedelta(minutes=1)
"""How long before its schedule time a tick may arrive: as much as clocks may differ by."""

_JSON_TYPE = re.compile(r"application/(json|(?!cloudevents)[\w.+-]+\+json)")
_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class RequestRefused(Exception):
    """A request is refused: ``status`` is its HTTP answer, ``code`` names the reason for programs."""

    def __init__(self, status: int, code: str, message: str, details: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details


@dataclass(frozen=True, slots=True)
class TriggerRequest:
    """A trigger as it came by HTTP."""

    type: TriggerType
    trigger: Trigger
    payload: Any


async def read_trigger(request: Request, now: datetime) -> TriggerRequest:
    """The trigger that ``request`` is, at the time ``now``.

    Its identity is, in this order, what ``Idempotency-Key`` says; Cloud Scheduler's job and schedule time; a
    CloudEvent's source and id (binary mode). A request with none of them is a trigger of its own.

    Raises:
        RequestRefused: not JSON, not declared as JSON, a header that cannot be used, or a tick from the future.
        PayloadTooLarge: the body is over the limit; it was not read further.
    """
    kind, trigger = identify(request.headers, now)
    return TriggerRequest(kind, trigger, await _read_json(request))


async def read_confirmation(request: Request) -> tuple[str, ...]:
    """The steps that a retry may begin again although they may have taken effect: ``{"again_interrupted": ["pay"]}``.

    Raises:
        RequestRefused: the body is something else.
        PayloadTooLarge: the body is over the limit; it was not read further.
    """
    body = await _read_json(request)
    keys = body.get("again_interrupted", []) if isinstance(body, dict) else None
    known = isinstance(body, dict) and set(body) <= {"again_interrupted"}
    if not known or not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        message = 'the body of a retry is empty or names steps: {"again_interrupted": ["pay"]}'
        raise RequestRefused(400, "invalid_retry", message)
    return tuple(keys)


async def _read_json(request: Request) -> Any:
    """The request's body; nothing is an empty object."""
    body = await read_body(request)
    if not body.strip():
        return {}
    content_type = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if not _JSON_TYPE.fullmatch(content_type):
        raise RequestRefused(
            415, "not_json_content", f"content type {content_type!r}: send the payload as application/json"
        )
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestRefused(400, "invalid_json", f"the body is not JSON: {error}") from None


def identify(headers: Headers, now: datetime) -> tuple[TriggerType, Trigger]:
    """The type of a request's trigger and its identity, from the headers."""
    kind, trigger = _by_sender(headers, now)
    if (rerun_of := headers.get(RERUN_HEADER)) is not None:
        if not is_run_id(rerun_of):
            raise RequestRefused(400, "invalid_run_id", "Autopilot-Rerun-Of: it must be the id of a run")
        trigger = trigger.model_copy(update={"rerun_of": rerun_of})
    key = headers.get("idempotency-key")
    if key is None:
        return kind, trigger
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise RequestRefused(400, "invalid_idempotency_key", "Idempotency-Key: 1 to 255 printable ASCII characters")
    return kind, trigger.model_copy(update={"identity": identity_of_key(key)})


def identity_of_key(key: str) -> str:
    """The identity of a trigger with this ``Idempotency-Key``."""
    return f"key\n{key}"


def _by_sender(headers: Headers, now: datetime) -> tuple[TriggerType, Trigger]:
    if job := headers.get("x-cloudscheduler-jobname"):
        if len(job) > 500:
            raise RequestRefused(400, "invalid_job_name", "X-CloudScheduler-JobName: at most 500 characters")
        scheduled_for = _schedule_time(headers.get("x-cloudscheduler-scheduletime"), now)
        return TriggerType.SCHEDULE, Trigger(
            # Parts of an identity are parted by what no header can hold.
            identity=f"schedule\n{job}\n{scheduled_for.isoformat()}" if scheduled_for else None,
            schedule=headers.get(SCHEDULE_HEADER),
            scheduled_for=scheduled_for,
        )
    source, event_id = headers.get("ce-source"), headers.get("ce-id")
    if source and event_id:
        if len(source) + len(event_id) > 2000:
            raise RequestRefused(400, "invalid_cloud_event", "ce-source and ce-id: at most 2,000 characters together")
        return TriggerType.EVENT, Trigger(identity=f"event\n{source}\n{event_id}")
    kind = TriggerType.MANUAL if headers.get(TRIGGER_HEADER) == TriggerType.MANUAL.value else TriggerType.HTTP
    return kind, Trigger()


def _schedule_time(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    if (time := _time(text)) is None:
        message = "X-CloudScheduler-ScheduleTime: a time with its offset, as in RFC 3339"
        raise RequestRefused(400, "invalid_schedule_time", message)
    if time - now > EARLIEST_TICK:
        # It would take the identity of a tick that is still to come, which would then not be executed.
        message = f"X-CloudScheduler-ScheduleTime: {time.isoformat()} is in the future; it is {now.isoformat()}"
        raise RequestRefused(400, "schedule_time_in_the_future", message)
    return time


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
        return None if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):  # no time; or in UTC before the year 1
        return None


async def read_body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > PAYLOAD_LIMIT:
        raise PayloadTooLarge(int(declared), PAYLOAD_LIMIT)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > PAYLOAD_LIMIT:
            raise PayloadTooLarge(len(body), PAYLOAD_LIMIT)
    return bytes(body)
