"""``autopilot logs``: what a run logged."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from autopilot.api.log_lines import LogLine, log_line
from autopilot.api.schemas import RunDetail
from autopilot.cli.addresses import is_of_this_machine
from autopilot.cli.exits import ExitCode, fail, told
from autopilot.cli.google_account import logged_entries
from autopilot.cli.options import (
    SOURCE,
    JsonOption,
    RunArgument,
    SourceOption,
    UrlOption,
    WorkflowOption,
    settings_or_fail,
    with_source,
)
from autopilot.cli.output import print_json, print_line
from autopilot.cli.rendering import bounded
from autopilot.cli.run_source import locate_run
from autopilot.observability import log_file_of, read_log

_OF_THE_PLATFORM = {"environment", "serviceContext"}
_LOOKS = {"warning": "yellow", "error": "red", "critical": "red"}


def logs(
    *,
    run: RunArgument,
    workflow: WorkflowOption = None,
    project: Annotated[
        str | None, typer.Option(envvar="GOOGLE_CLOUD_PROJECT", help="The project whose log is asked, with --url.")
    ] = None,
    query: Annotated[bool, typer.Option("--query", help="Only print the query for Cloud Logging.")] = False,
    url: UrlOption = None,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Show what a run logged: on this machine, or with --url in Cloud Logging."""
    detail = with_source(url, source, lambda runs: locate_run(runs, run, workflow))
    if query:
        print_line(detail.log_query)
    elif url and not is_of_this_machine(url):
        _read_from_cloud(detail, project, as_json=as_json)
    else:
        _read_from_this_machine(detail, as_json=as_json)


def _read_from_cloud(detail: RunDetail, project: str | None, *, as_json: bool) -> None:
    with told():
        entries = logged_entries(detail.log_query, project)
    if as_json:
        print_json(entries)
    elif entries:
        _print_events([_event_of(entry) for entry in entries])
    else:
        where = f"of project {project}" if project else "of gcloud's own project (--project names another)"
        fail(ExitCode.NOT_FOUND, f"Cloud Logging {where} has nothing of this run")


def kept_log(run_id: str) -> tuple[Path, list[dict[str, Any]]]:
    """The file that keeps the log of this machine, and its events of a run, oldest first."""
    with told():
        file = log_file_of(settings_or_fail())
    return file, list(read_log(file, run_id))


def _read_from_this_machine(detail: RunDetail, *, as_json: bool) -> None:
    file, events = kept_log(detail.run.id)
    if as_json:
        print_json(events)
    elif events:
        _print_events(events)
    else:
        fail(
            ExitCode.NOT_FOUND,
            f"{file} has nothing of this run: what `autopilot dev`, `run` and `serve` log in this folder is kept there",
        )


def _event_of(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of Cloud Logging as the event that was logged."""
    told = dict(entry.get("jsonPayload") or {"message": entry.get("textPayload", "")})
    return {
        "timestamp": entry.get("timestamp", ""),
        "level": str(entry.get("severity", "")).lower(),
        "event": told.pop("message", ""),
        "exception": told.pop("stack_trace", None),
        **{name: value for name, value in told.items() if name not in _OF_THE_PLATFORM},
    }


def _print_events(events: list[dict[str, Any]]) -> None:
    console = Console(highlight=False)
    for event in events:
        line = log_line(event)
        console.print(_line(line), soft_wrap=True)
        if line.exception is not None:
            console.print(Text(_printable(line.exception), style="dim"), soft_wrap=True)


def _line(line: LogLine) -> Text:
    shown = Text("" if line.at is None else f"{line.at:%H:%M:%S}", style="dim")
    shown.append(f" {_printable(line.level):<8}", style=_LOOKS.get(line.level, "not dim"))
    shown.append(_printable(line.event), style="not dim bold")
    for name, value in line.fields:
        shown.append(f" {_printable(name)}=", style="cyan")
        shown.append(" ".join(_printable(value).split()), style="not dim")
    return shown


def _printable(text: str) -> str:
    return bounded(text, lines=400).plain
