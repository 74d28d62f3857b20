"""What functions log on a developer's machine, kept for ``autopilot logs``: a file of one JSON object a line.

Several processes may write to it: those of ``autopilot dev`` and of ``autopilot run`` beside it.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from autopilot.settings import Settings

SIZE_LIMIT = 20 * 1024 * 1024
"""A file greater than this is put aside when the next one is begun; one such file is kept."""


def log_file_of(settings: Settings) -> Path:
    """The file that the settings name, else the one beside the history of this machine."""
    return settings.log_file or settings.sqlite_path.parent / "log.jsonl"


def keep_log(file: Path) -> None:
    """From now on, write every event that is logged to ``file`` too. Logging is configured already."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and file.stat().st_size > SIZE_LIMIT:
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
