"""The form that retries a run: the steps that it begins again, and a confirmation of each that may have taken effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autopilot.api.schemas import RetryPlan, StepDetail

UNCONFIRMED = "The run was not retried: a step may already have taken effect. Check whether it did, and confirm it."

SHOWN_STEPS = 10
"""How many steps the form names on each side of the failure; it counts the others."""

_FIELD = "again."
"""Begins the names of the fields that confirm a step; the step's id follows."""


@dataclass(frozen=True, slots=True)
class NamedSteps:
    """Steps to be named in a sentence."""

    names: list[str]
    more: int
    """The number of steps that are not named."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A step that begins again only if a person confirms it."""

    field: str
    """The name of the checkbox; its value is the step's key."""
    step: StepDetail


@dataclass(frozen=True, slots=True)
class RetryForm:
    """The form's content."""

    failed: NamedSteps
    after: NamedSteps
    """Steps that ran after the failure."""
    confirmations: list[Confirmation]
    has_steps: bool
    """Whether the run recorded any step."""


def retry_form(plan: RetryPlan, steps: Sequence[StepDetail]) -> RetryForm:
    """The form for a run with these steps."""
    after, interrupted = set(plan.after), set(plan.interrupted)
    return RetryForm(
        failed=_named([key for key in plan.begins_again if key not in after]),
        after=_named(plan.after),
        confirmations=[Confirmation(f"{_FIELD}{step.id}", step) for step in steps if step.title in interrupted],
        has_steps=bool(steps),
    )


def confirmed_steps(form: Mapping[str, str]) -> list[str]:
    """The keys of the steps that a person has confirmed in the form."""
    return [key for name, key in form.items() if name.startswith(_FIELD)]


def _named(keys: Sequence[str]) -> NamedSteps:
    return NamedSteps(list(keys[:SHOWN_STEPS]), max(0, len(keys) - SHOWN_STEPS))
