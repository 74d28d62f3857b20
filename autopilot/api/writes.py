"""Write endpoints of API v1."""

import re
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header
from starlette.requests import Request
from starlette.responses import Response

from autopilot.api.actions import RunActions
from autopilot.api.context import ApiContext
from autopilot.api.errors import documented
from autopilot.api.reads import Name, RunIdentifier
from autopilot.api.schemas import RunAccepted
from autopilot.function.answers import json_response
from autopilot.function.trigger import read_body, read_confirmation

WAIT_SECONDS = 5.0
"""How long a function's answer is waited for unless ``Prefer`` says otherwise."""

MAX_WAIT_SECONDS = 300.0

_WAIT = re.compile(r"(?:.*[,;]\s*)?wait=(\d{1,4})\b.*")

IdempotencyKey = Annotated[
    str | None,
    Header(pattern=r"^[\x20-\x7e]{1,255}$", description="A repeated call with the same key gets the same run."),
]


def wait_of(prefer: Annotated[str | None, Header(description="``wait=<seconds>``, RFC 7240.")] = None) -> float:
    """How long the caller wants to wait, in seconds."""
    match = _WAIT.fullmatch(prefer or "")
    return WAIT_SECONDS if match is None else min(MAX_WAIT_SECONDS, max(1.0, float(match[1])))


Wait = Annotated[float, Depends(wait_of)]


class Writes:
    """Write endpoints. Each calls the workflow's own function, except delete."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._actions = RunActions(context)

    def add_to(self, api: FastAPI) -> None:
        """Add the routes and their documented answers."""
        route = partial(api.add_api_route, dependencies=[Depends(self._check_token)], response_model=None)
        run = "/workflows/{name}/runs/{run_id}"
        accepted: dict[int | str, dict[str, Any]] = {
            200: {"model": RunAccepted, "description": "The run is over, however it ended."},
            202: {"model": RunAccepted, "description": "The run is not over yet; see ``Location``."},
        }
        for path, endpoint, errors in (
            ("/workflows/{name}/trigger", self.trigger, (400, 404, 409, 413, 415, 502)),
            (f"{run}/retry", self.retry, (400, 404, 409, 413, 415, 502)),
            (f"{run}/rerun", self.rerun, (400, 404, 409, 413, 502)),
            (f"{run}/cancel", self.cancel, (404, 409, 502)),
        ):
            answers: dict[int | str, dict[str, Any]] = {**accepted, **documented(*errors)}
            extra = _BODIES.get(endpoint.__name__)
            route(path, endpoint, methods=["POST"], responses=answers, openapi_extra=extra)
        route(run, self.delete, methods=["DELETE"], status_code=204, responses=documented(404, 409))

    async def _check_token(self, request: Request) -> None:
        self._context.access.check_api_write(request)

    async def trigger(
        self, request: Request, name: Name, wait: Wait, idempotency_key: IdempotencyKey = None
    ) -> Response:
        """Start a run; the body is the payload."""
        payload = await read_body(request)
        return _answer(await self._actions.trigger(name, payload, key=idempotency_key, wait=wait))

    async def retry(self, request: Request, name: Name, run_id: RunIdentifier, wait: Wait) -> Response:
        """Reopen a run that failed or was cancelled, as a new attempt.

        The steps that failed it begin again, and those that its code began after their failure; all other recorded
        steps keep their results. The run's `retry` names them beforehand. Steps that may already have taken effect
        need the body: without it the answer is 409 `steps_interrupted`, and its details list their keys in `steps`.
        """
        confirmed = await read_confirmation(request)
        return _answer(await self._actions.retry(name, run_id, wait=wait, again_interrupted=confirmed))

    async def rerun(
        self, name: Name, run_id: RunIdentifier, wait: Wait, idempotency_key: IdempotencyKey = None
    ) -> Response:
        """Start a new run of the same payload."""
        return _answer(await self._actions.rerun(name, run_id, key=idempotency_key, wait=wait))

    async def cancel(self, name: Name, run_id: RunIdentifier, wait: Wait) -> Response:
        """Cancel a run that is not over; it stops at its next step."""
        return _answer(await self._actions.cancel(name, run_id, wait=wait))

    async def delete(self, name: Name, run_id: RunIdentifier) -> Response:
        """Remove a run that is over, and its steps. Lifetime statistics stay."""
        await self._actions.delete(name, run_id)
        return Response(status_code=204)


_BODIES: dict[str, dict[str, Any]] = {
    "trigger": {
        "requestBody": {
            "description": "The payload; an empty body is an empty payload.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
    "retry": {
        "requestBody": {
            "description": "Steps to begin again although they may already have taken effect; usually empty.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "again_interrupted": {
                                "type": "array",
                                "items": {"type": "string"},
                                "description": "Their keys, as the run's `retry.interrupted` has them.",
                            }
                        },
                        "additionalProperties": False,
                    },
                    "example": {"again_interrupted": ["pay"]},
                }
            },
        }
    },
}


def _answer(accepted: RunAccepted) -> Response:
    is_over = accepted.status.is_terminal
    return json_response(accepted, 200 if is_over else 202, {} if is_over else {"Location": accepted.location})
