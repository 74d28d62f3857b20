"""``autopilot logs``: the log of a run."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from autopilot.api.log_lines import LogLine, log_line
from autopilot.api.run_detail import log_query
from autopilot.cli.credentials import gcloud, is_local
from autopilot.cli.exits import CommandFailed, ExitCode
from autopilot.cli.options import (
    SOURCE,
    JsonOption,
    RunArgument,
    SourceOption,
    UrlOption,
    WorkflowOption,
    with_runs,
)
from autopilot.cli.output import print_json, safe_text
from autopilot.cli.run_source import locate_run
from autopilot.observability import log_file_of, read_log
from autopilot.settings import load_settings

_CLOUD_LOGGING_SECONDS = 300.0
_PLATFORM_FIELDS = {"environment", "serviceContext"}
_LEVEL_STYLES = {"warning": "yellow", "error": "red", "critical": "red"}
_MAX_TRACE_LINES = 400


def logs(
    *,
    run: RunArgument,
    workflow: WorkflowOption = None,
    project: Annotated[
        str | None,
        typer.Option(envvar="GOOGLE_CLOUD_PROJECT", help="With --url: the project whose Cloud Logging is read."),
    ] = None,
    query: Annotated[bool, typer.Option("--query", help="Only print the query for Cloud Logging.")] = False,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Show the log of a run, from this machine or with --url from Cloud Logging."""
    detail = with_runs(url, source, lambda runs: locate_run(runs, run, workflow))
    # Not the API's own text: it becomes an argument of gcloud, and is shown in a terminal.
    wanted = log_query(detail.run)
    if query:
        typer.echo(wanted)
        return
    if url is None or is_local(url):
        events = entries = local_events(detail.run.id)
        place = f"{log_file_of(load_settings())}, where `autopilot dev`, `run` and `serve` keep the log of this folder,"
    else:
        entries = _cloud_entries(wanted, project)
        events = [_event(entry) for entry in entries]
        named = f"project {project}" if project else "gcloud's default project (choose another with --project)"
        place = f"Cloud Logging of {named}"
    if as_json:
        print_json(entries)
    elif not events:
        raise CommandFailed(ExitCode.NOT_FOUND, f"{place} has no lines of this run")
    else:
        _print_events(events)


def local_events(run_id: str) -> list[dict[str, Any]]:
    """The events that a run logged on this machine, oldest first."""
    return list(read_log(log_file_of(load_settings()), run_id))


def _cloud_entries(query: str, project: str | None) -> list[dict[str, Any]]:
    """The matching entries of Cloud Logging, oldest first; ``project`` is gcloud's default if None.

    Raises:
        CommandFailed: they cannot be read; the message contains the query, to be used elsewhere.
    """
    arguments = [query, "--order=asc", "--format=json", *([] if project is None else [f"--project={project}"])]
    try:
        output = gcloud("logging", "read", *arguments, seconds=_CLOUD_LOGGING_SECONDS)
    except CommandFailed as failure:
        raise CommandFailed(failure.code, f"{failure}\nThe query for Cloud Logging is:\n{query}") from None
    entries: list[dict[str, Any]] = json.loads(output)
    return entries


def _event(entry: dict[str, Any]) -> dict[str, Any]:
    """The event that an entry of Cloud Logging was made from."""
    fields = dict(entry.get("jsonPayload") or {"message": entry.get("textPayload", "")})
    return {
        "timestamp": entry.get("timestamp", ""),
        "level": str(entry.get("severity", "")).lower(),
        "event": fields.pop("message", ""),
        "exception": fields.pop("stack_trace", None),
        **{name: value for name, value in fields.items() if name not in _PLATFORM_FIELDS},
    }


def _print_events(events: list[dict[str, Any]]) -> None:
    console = Console(highlight=False)
    for event in events:
        line = log_line(event)
        console.print(_line_text(line), soft_wrap=True)
        if line.exception is not None:
            console.print(safe_text(line.exception, style="dim", lines=_MAX_TRACE_LINES), soft_wrap=True)


def _line_text(line: LogLine) -> Text:
    text = Text(f"{line.at:%H:%M:%S}" if line.at else " " * 8, style="dim").append(" ")
    text.append(f"{safe_text(line.level).plain:<8}", style=_LEVEL_STYLES.get(line.level, "not dim"))
    text.append(safe_text(line.event).plain, style="not dim bold")
    for name, value in line.fields:
        text.append(f" {safe_text(name).plain}=", style="cyan")
        text.append(" ".join(safe_text(value).plain.split()), style="not dim")
    return text
