"""The report that the last successful run left for the next one."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from autopilot import RunContext

ReportT = TypeVar("ReportT", bound=BaseModel)


async def last_report(ctx: RunContext[Any], report_type: type[ReportT]) -> ReportT | None:
    """Read the result of the last successful run as ``report_type``; None if there is none that fits.

    A result that an older version recorded in another shape counts as none, and is logged: a workflow starts from
    scratch rather than failing for ever.

    Raises:
        StoreUnavailable: the run log does not respond, so the last report is unknown.
    """
    last = await ctx.last_success()
    if last is None:
        return None
    try:
        return report_type.model_validate(last.result)
    except ValidationError as error:
        ctx.log.warning("last_result_unreadable", last_run_id=last.id, errors=error.error_count())
        return None
