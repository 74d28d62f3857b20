"""Structured logs: JSON for Cloud Logging in the cloud, readable lines in a terminal, and a log file on a machine.

The fields that Google Cloud interprets are those of cloud.google.com/logging/docs/structured-logging
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
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from autopilot.errors import StepFailed
from autopilot.private_files import prepare_file, prepare_folder
from autopilot.settings import Settings
from autopilot.text import visible, without_input_values

_CLOUD_FIELDS = "logging.googleapis.com/"
_TRACE = f"{_CLOUD_FIELDS}trace"
_SPAN_ID = f"{_CLOUD_FIELDS}spanId"
_TRACE_SAMPLED = f"{_CLOUD_FIELDS}trace_sampled"
_LABELS = f"{_CLOUD_FIELDS}labels"
_SEVERITIES = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2}).*")
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]))?")

_OUR_FOLDER = f"{Path(__file__).parent}{os.sep}"
_CAUSES_SHOWN = 20
"""How many errors of a chain of causes a traceback shows, from the one that was raised."""

LOG_FILE_LIMIT = 20 * 1024 * 1024
"""Bytes. A larger log file is rotated when the next process opens it."""


def configure_logging(settings: Settings) -> None:
    """Write structlog's events, and the standard library's warnings, to standard output and to the log file if any."""
    fields: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level]
    rendering: list[Processor] = [
        structlog.processors.ExceptionRenderer(lambda exc_info: traceback_text(exc_info[1])),
        *(() if settings.log_file is None else (_log_file_writer(settings.log_file),)),
        *(_cloud_rendering(settings) if settings.in_cloud else _terminal_rendering()),
    ]
    structlog.configure(
        processors=[*fields, *rendering],
        logger_factory=structlog.WriteLoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    formatter = structlog.stdlib.ProcessorFormatter
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter(foreign_pre_chain=fields, processors=[formatter.remove_processors_meta, *rendering]))
    # Not the libraries' INFO: that of HTTP clients holds whole URLs, secrets included.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _cloud_rendering(settings: Settings) -> list[Processor]:
    service_context = {"service": settings.service, "version": settings.revision}

    def to_cloud_logging(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["message"] = event.pop("event")
        event["environment"] = settings.environment
        level = event.pop("level").upper()
        event["severity"] = level if level in _SEVERITIES else "DEFAULT"
        if "exception" in event:
            event["stack_trace"] = event.pop("exception")
            event["serviceContext"] = service_context
        return event

    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        to_cloud_logging,
        structlog.processors.JSONRenderer(),
    ]


def _terminal_rendering() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        lambda _, __, event: _as_visible(_without_cloud_fields(event)),
        structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=24),
        _as_printable,
    ]


def _without_cloud_fields(event: EventDict) -> EventDict:
    return {name: value for name, value in event.items() if not name.startswith(_CLOUD_FIELDS)}


def _as_visible(event: EventDict) -> EventDict:
    # What a workflow logs can come from anywhere, and a terminal obeys what is in it. Before the renderer adds its colors.
    return {visible(name): _visible_value(value) for name, value in event.items()}


def _visible_value(value: Any) -> Any:
    if value is None or type(value) in {bool, int, float}:
        return value
    return visible(value if isinstance(value, str) else repr(value))


def _as_printable(_: WrappedLogger, __: str, line: EventDict | str) -> str:
    # An author's text may have no bytes in the terminal's encoding; logging it must not fail a run.
    encoding = sys.stdout.encoding or "utf-8"
    return str(line).encode(encoding, "backslashreplace").decode(encoding)


def request_context(headers: Mapping[str, str], settings: Settings) -> AbstractContextManager[Any]:
    """Bind the trace that a request's headers name to every line logged inside the returned context."""
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


def traceback_text(error: BaseException) -> str:
    """Format a traceback as Python does, without the input values that pydantic's errors quote.

    Our own frames between those of an author are left out, so that it shows the code that the author can fix. An error
    raised in one of our frames keeps them all, but for the failure of a step, whose own traceback is another. Of a chain of causes the last 20 errors are shown.

    Log it as an event's ``exception``. Text stays as it is whatever an author configures structlog to do with
    exceptions; its default shows the values of local variables, payloads among them.
    """
    trace = traceback.TracebackException.from_exception(error)
    left: list[tuple[traceback.TracebackException, BaseException, int]] = [(trace, error, 1)]
    while left:  # no recursion: a chain of causes can be longer than Python's stack
        part, of, depth = left.pop()
        _leave_out_our_frames(part, of)
        if depth == _CAUSES_SHOWN:
            part.__cause__ = part.__context__ = None
        following = [(part.__cause__, of.__cause__), (part.__context__, of.__context__)]
        if isinstance(of, BaseExceptionGroup):
            following += zip(part.exceptions or (), of.exceptions, strict=False)
        left.extend((other, its, depth + 1) for other, its in following if other is not None and its is not None)
    text = without_input_values("".join(trace.format()).rstrip())
    return text.encode(errors="backslashreplace").decode()  # a lone surrogate in it could not be printed


def _leave_out_our_frames(trace: traceback.TracebackException, error: BaseException) -> None:
    theirs = [frame for frame in trace.stack if not frame.filename.startswith(_OUR_FOLDER)]
    if isinstance(error, StepFailed) or (theirs and theirs[-1] is trace.stack[-1]):
        trace.stack = traceback.StackSummary.from_list(theirs)


def log_file_of(settings: Settings) -> Path:
    """The log file that the settings name; by default the one beside this machine's SQLite file."""
    return settings.log_file or settings.sqlite_path.parent / "log.jsonl"


def _log_file_writer(file: Path) -> Processor:
    """Append each event to ``file`` as one line of JSON, and pass it on unchanged.

    Several processes append to one file: ``autopilot dev``, and each function that ``run`` and ``serve`` start. So each
    line is one write in append mode, and the file is rotated only when it is opened; a process that still has the old
    one open keeps appending to it. ``logging.handlers.RotatingFileHandler`` would lose events here: every process
    rotates by itself, and the second to do so replaces the backup of the first with a file that has just been begun.
    """
    prepare_folder(file)
    with suppress(FileNotFoundError):  # the first event of all, or another process is rotating it
        if file.stat().st_size > LOG_FILE_LIMIT:
            file.replace(_rotated(file))
    prepare_file(file)
    out = file.open("ab", buffering=0)

    def write(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        stamped = {**_without_cloud_fields(event), "timestamp": datetime.now(UTC).isoformat()}
        out.write(f"{json.dumps(stamped, default=str)}\n".encode())
        return event

    return write


def _rotated(file: Path) -> Path:
    return file.with_suffix(".1.jsonl")


def read_log(file: Path, run_id: str) -> Iterator[dict[str, Any]]:
    """Yield the events of one run, oldest first, from the log file and the one rotated before it."""
    for part in (_rotated(file), file):
        if not part.exists():
            continue
        with part.open(encoding="utf-8") as lines:
            for line in lines:
                if run_id in line and (event := _event(line)).get("run_id") == run_id:
                    yield event


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:  # cut off when its process was killed
        return {}
    return event if isinstance(event, dict) else {}
