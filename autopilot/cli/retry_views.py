"""What `autopilot show` and `retry` say of a retry: the steps that run again, their tries, and the command to type."""

import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from autopilot.api.schemas import RetryPlan, RunDetail, StepDetail
from autopilot.cli.output import error_text, print_rows, rows_table
from autopilot.models import RunStatus, StepStatus
from autopilot.text import duration_text, visible

_STEPS_NAMED = 10
_STEPS_WITH_TRIES = 5
"""How many failed steps are shown with their tries."""

_KEPT = "All other recorded steps keep their results and do not run again."


def retry_command(run_id: str, interrupted: Sequence[str], options: str) -> str:
    """The command that retries a run and confirms these steps, to be typed in a shell."""
    confirmed = "".join(f" --again-interrupted {_shell_word(key)}" for key in interrupted)
    return f"autopilot retry {run_id}{confirmed}{options}"


def print_retry(console: Console, detail: RunDetail, run_id: str, options: str) -> None:
    """Print the effect that a retry would have on a run, if it can be retried at all.

    Args:
        run_id: the run's id as a command takes it.
        options: the options of a command that acts on the run.
    """
    plan = detail.retry
    if plan is None or "retry" not in detail.actions:
        return
    console.print()
    for line in _effect(plan, detail):
        console.print(Text(f"  {line}"))
    if plan.interrupted:
        count = len(plan.interrupted)
        steps = "One of them" if len(plan.begins_again) > 1 else "It"
        subject = steps if count == 1 else f"{count:,} of them" if count < len(plan.begins_again) else "They"
        console.print(Text(f"\n  {subject} may already have taken effect. Check first, then confirm:", style="yellow"))
        console.print(Text(f"  {retry_command(run_id, plan.interrupted, options)}"), soft_wrap=True)


def print_tries(console: Console, detail: RunDetail) -> None:
    """Print the tries of each failed step that had several, that at which the run failed first."""
    tried = [step for step in detail.steps if step.status is StepStatus.FAILED and step.tries > 1 and step.history]
    tried.sort(key=lambda step: step.key != detail.failed_step)
    for step in tried[:_STEPS_WITH_TRIES]:
        _print_tries_of(console, step)


def _print_tries_of(console: Console, step: StepDetail) -> None:
    total = "" if step.duration_ms is None else f", {duration_text(step.duration_ms)} in all"
    console.print(Text(f"\n  Tries of {visible(step.title)}{total}", style="dim"), soft_wrap=True)
    table = rows_table("Started (UTC)", "Duration", right="Duration")
    for each in step.history:
        table.add_row(f"{each.started_at:%m-%d %H:%M:%S}", duration_text(each.duration_ms))
    print_rows(console, table, [error_text(each.error_type, each.error) for each in step.history], indent=2)
    if (unlisted := step.tries - len(step.history)) > 0:
        console.print(Text(f"  {unlisted:,} more without a record: cut off, or before the last 10", style="dim"))


def _effect(plan: RetryPlan, detail: RunDetail) -> list[str]:
    if plan.begins_again:
        after = set(plan.after)
        failed = [key for key in plan.begins_again if key not in after]
        addition = (
            f", and {_named(plan.after)}, which ran after {'it' if len(failed) == 1 else 'them'}" if after else ""
        )
        return [f"A retry runs again: {_named(failed)}{addition}.", _KEPT]
    if not detail.steps:
        return ["A retry runs the workflow's code from its start: this run recorded no steps."]
    if detail.run.status is RunStatus.CANCELLED:
        return ["A retry runs no recorded step again: they keep their results, and the run continues from there."]
    return ["No step failed this run: a retry runs the workflow's own code again, and no recorded step."]


def _named(keys: Sequence[str]) -> str:
    shown = [visible(key) for key in keys[:_STEPS_NAMED]]
    if len(keys) > len(shown):
        return f"{', '.join(shown)} and {len(keys) - len(shown):,} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _shell_word(text: str) -> str:
    """One word of a shell; what cannot be printed is escaped, as bash and zsh read it."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = (f"\\{each}" if each in "\\'" else each if each.isprintable() else f"\\U{ord(each):08x}" for each in text)
    return f"$'{''.join(escaped)}'"
