"""``autopilot doctor``: what is missing, and how to get it."""

from collections import Counter
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from autopilot.cli.checks import Finding, Need, findings
from autopilot.cli.exits import ExitCode
from autopilot.cli.options import SOURCE, JsonOption, SourceOption
from autopilot.cli.output import print_json
from autopilot.cli.rendering import bounded

_TITLES = {
    Need.LOCAL: "On this machine",
    Need.DEPLOYMENT: "For deployment",
    Need.EMULATOR: "For Firestore on this machine",
}


def doctor(
    *,
    deploy: Annotated[bool, typer.Option("--deploy", help="What deployment needs counts too.")] = False,
    source: SourceOption = SOURCE,
    as_json: JsonOption = False,
) -> None:
    """Say what is missing for local use and for deployment, and how to get it."""
    found: list[Finding] = []
    console = Console(highlight=False)
    with Console(stderr=True).status("Looking"):
        for finding in findings(source):
            if not as_json:
                _print(console, finding, is_first=all(other.need is not finding.need for other in found))
            found.append(finding)
    if as_json:
        print_json(found)
    else:
        console.print(_summary(found))
    needed = {Need.LOCAL, Need.DEPLOYMENT} if deploy else {Need.LOCAL}
    if any(finding.need in needed and not finding.ok for finding in found):
        raise typer.Exit(ExitCode.RUN_FAILED)


def _summary(found: list[Finding]) -> str:
    missing = Counter(finding.need for finding in found if not finding.ok)
    local, deployment = missing[Need.LOCAL], missing[Need.DEPLOYMENT]
    return f"\nMissing here: {local or 'nothing'}. Missing for deployment: {deployment or 'nothing'}."


def _print(console: Console, finding: Finding, *, is_first: bool) -> None:
    if is_first:
        console.print(Text(f"\n{_TITLES[finding.need]}", style="bold"))
    mark, style = ("✔", "green") if finding.ok else ("✘", "red" if finding.need is Need.LOCAL else "yellow")
    line = Text(f"  {mark} ", style=style).append(f"{finding.name}: ", style="default")
    console.print(line.append_text(bounded(finding.told)), soft_wrap=True)
    if finding.remedy:
        console.print(Text(f"    → {finding.remedy}"), soft_wrap=True)
