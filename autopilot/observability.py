"""Structured logs: JSON that Cloud Logging understands in the cloud, readable lines in a terminal.

The fields with a meaning to Google Cloud are those of cloud.google.com/logging/docs/structured-logging
(``severity``, ``message``, ``logging.googleapis.com/...``) and of
cloud.google.com/error-reporting/docs/formatting-error-messages (``stack_trace``, ``serviceContext``).
"""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from autopilot.settings import Settings

_TRACE = "logging.googleapis.com/trace"
_SPAN_ID = "logging.googleapis.com/spanId"
_TRACE_SAMPLED = "logging.googleapis.com/trace_sampled"
_LABELS = "logging.googleapis.com/labels"

_FOREIGN = structlog.stdlib.ProcessorFormatter
"""What makes the standard library's log records look like structlog's events."""

_OUR_FOLDER = f"{Path(__file__).parent}{os.sep}"

_PYDANTIC_INPUT = re.compile(r"input_value=.*, (?=input_type=)")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2}).*")
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]))?")


def configure_logging(settings: Settings) -> None:
    """Send structlog's events, and the standard library's warnings, to standard output as this process needs them."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
    ]
    ending = _cloud_processors(settings) if settings.in_cloud else _terminal_processors()
    structlog.configure(
        processors=[*shared, *ending],
        logger_factory=structlog.WriteLoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    handler = logging.StreamHandler(sys.stdout)
    formatter = _FOREIGN(foreign_pre_chain=shared, processors=[_FOREIGN.remove_processors_meta, *ending])
    handler.setFormatter(formatter)
    # Libraries speak from warnings on: the information of HTTP clients holds whole URLs, secrets included.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    if settings.log_file is not None:
        keep_log(settings.log_file)


def request_context(headers: Mapping[str, str], settings: Settings) -> AbstractContextManager[Any]:
    """Bind what a request's headers say of its trace to every line logged inside the returned context."""
    fields: dict[str, Any] = {}
    if (trace := _trace(headers)) is not None:
        trace_id, span_id, is_sampled = trace
        fields[_TRACE] = f"projects/{settings.project}/traces/{trace_id}" if settings.project else trace_id
        fields[_TRACE_SAMPLED] = is_sampled
        if span_id:
            fields[_SPAN_ID] = span_id
    if execution_id := headers.get("function-execution-id"):
        fields[_LABELS] = {"execution_id": execution_id[:64]}
    return bound_contextvars(**fields)


def _trace(headers: Mapping[str, str]) -> tuple[str, str | None, bool] | None:
    if match := _TRACEPARENT.fullmatch(headers.get("traceparent", "")):
        return match[1], match[2], bool(int(match[3], 16) & 1)
    if match := _CLOUD_TRACE.fullmatch(headers.get("x-cloud-trace-context", "")):
        return match[1].lower(), f"{int(match[2]):016x}" if match[2] else None, match[3] == "1"
    return None


def _cloud_processors(settings: Settings) -> list[Processor]:
    service_context = {"service": settings.service, "version": settings.revision}

    def to_cloud_logging(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["message"] = event.pop("event")
        event["environment"] = settings.environment
        event["severity"] = _SEVERITIES.get(event.pop("level"), "DEFAULT")
        if "exception" in event:
            event["stack_trace"] = event.pop("exception")
            event["serviceContext"] = service_context
        return event

    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.ExceptionRenderer(_format_exception),
        to_cloud_logging,
        structlog.processors.JSONRenderer(),
    ]


_SEVERITIES = {
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "exception": "ERROR",
    "critical": "CRITICAL",
}


def _terminal_processors() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.processors.ExceptionRenderer(_format_exception),
        _drop_cloud_fields,
        structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=24),
        _as_printable,
    ]


def _drop_cloud_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {name: value for name, value in event.items() if not name.startswith("logging.googleapis.com/")}


def _as_printable(_: WrappedLogger, __: str, line: EventDict | str) -> str:
    # An author's text can hold what the terminal's encoding has no bytes for; to log it must not fail a run.
    encoding = sys.stdout.encoding or "utf-8"
    return str(line).encode(encoding, "backslashreplace").decode(encoding)


def traceback_text(error: BaseException) -> str:
    """A traceback as Python prints it, less the input values that pydantic's errors quote.

    Our own frames between those of an author are left out, so that it shows the code that can be mended; an error
    that arose in a frame of ours keeps them all.

    For an event's ``exception``: as text it is the same whatever structlog is configured to do with exceptions. By
    default it shows the values of local variables, payloads among them.
    """
    told = traceback.TracebackException.from_exception(error)
    _leave_out_our_frames(told)
    return _PYDANTIC_INPUT.sub("", "".join(told.format()).rstrip())


def _leave_out_our_frames(told: traceback.TracebackException) -> None:
    theirs = [frame for frame in told.stack if not frame.filename.startswith(_OUR_FOLDER)]
    if theirs and theirs[-1] is told.stack[-1]:
        told.stack = traceback.StackSummary.from_list(theirs)
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _leave_out_our_frames(other)


def _format_exception(exc_info: ExcInfo) -> str:
    return traceback_text(exc_info[1])


LOG_FILE_SIZE_LIMIT = 20 * 1024 * 1024
"""A file greater than this is put aside when the next one is begun; one such file is kept."""


def log_file_of(settings: Settings) -> Path:
    """The file that the settings name, else the one beside the history of this machine."""
    return settings.log_file or settings.sqlite_path.parent / "log.jsonl"


def keep_log(file: Path) -> None:
    """From now on, write every event that is logged to ``file`` too. Logging is configured already."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and file.stat().st_size > LOG_FILE_SIZE_LIMIT:
        file.replace(file.with_suffix(".1.jsonl"))
    out = file.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)

    def write(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        kept = {name: value for name, value in event.items() if not name.startswith("logging.googleapis.com/")}
        out.write(json.dumps(kept | {"timestamp": datetime.now(UTC).isoformat()}, default=str) + "\n")
        return event

    processors: list[Processor] = structlog.get_config()["processors"]
    # Behind what makes text of an exception, before what makes text of the whole event.
    behind = 1 + max(
        number
        for number, processor in enumerate(processors)
        if isinstance(processor, structlog.processors.ExceptionRenderer)
    )
    structlog.configure(processors=[*processors[:behind], write, *processors[behind:]])


def read_log(file: Path, run_id: str) -> Iterator[dict[str, Any]]:
    """The events of one run, oldest first."""
    for part in (file.with_suffix(".1.jsonl"), file):
        if not part.exists():
            continue
        with part.open(encoding="utf-8") as lines:
            for line in lines:
                if run_id in line and (event := _event(line)).get("run_id") == run_id:
                    yield event


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:  # cut off by the end of its process
        return {}
    return event if isinstance(event, dict) else {}
