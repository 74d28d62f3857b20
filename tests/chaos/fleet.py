"""Several processes of one function, and a caller that delivers its triggers until their runs have ended."""

import asyncio
import json
import os
import signal
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx

from autopilot.development.function_server import FunctionServer
from autopilot.models import RunStatus, WorkflowRun
from tests.chaos.workflows import BODIES

ROOT = Path(__file__).parents[2]
BUNDLE = """
from autopilot import entry_point

relay = entry_point("tests.chaos.workflows:Relay", name="relay")
long_relay = entry_point("tests.chaos.workflows:LongRelay", name="long_relay")
brisk_relay = entry_point("tests.chaos.workflows:BriskRelay", name="brisk_relay")
steady_relay = entry_point("tests.chaos.workflows:SteadyRelay", name="steady_relay")
"""

ENDS_WITHIN = 45.0
"""Seconds in which a run must end once nobody disturbs it any more."""

REDELIVERY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Body:
    """One execution of a step's body, as it told of itself when it began."""

    run: str
    step: str
    given: str
    token: str


class Fleet:
    """Processes that serve one function on one store.

    Args:
        folder: for the bundle and what its bodies write.
        env: the variables that name the store.
        chance: decides to which process a trigger is delivered.
    """

    def __init__(
        self, target: str, folder: Path, env: Mapping[str, str], chance: Random, *, size: int = 2, bundle: str = BUNDLE
    ) -> None:
        self.chance = chance
        self.source = folder / "main.py"
        self.source.write_text(bundle)
        self._bodies = folder / "bodies.jsonl"
        self._bodies.touch()
        variables = {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "PYTHONDONTWRITEBYTECODE": "1",  # a bundle that is written anew within a second is another one
            BODIES: str(self._bodies),
            **env,
        }
        self.servers = [FunctionServer(target, source=self.source, env=variables) for _ in range(size)]
        self._client = httpx.AsyncClient(timeout=30.0, trust_env=False, limits=httpx.Limits(max_connections=None))

    async def start(self) -> None:
        """Start all processes; they are warm then."""
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in self.servers))
        await asyncio.gather(*map(self.describe, self.servers))

    async def close(self) -> None:
        await self._client.aclose()
        for server in self.servers:
            server.kill()

    async def replace(self, server: FunctionServer) -> None:
        """What every process meets in the end: killed, or one time in four told to end; and then there is another."""
        await asyncio.to_thread(server.kill if self.chance.random() < 0.75 else server.stop)
        await asyncio.to_thread(server.start)

    def freeze(self, server: FunctionServer) -> None:
        os.killpg(server.pid, signal.SIGSTOP)

    def thaw(self, server: FunctionServer) -> None:
        os.killpg(server.pid, signal.SIGCONT)

    async def deliver(self, server: FunctionServer, identity: str, payload: Mapping[str, Any]) -> httpx.Response:
        return await self._client.post(server.url, json=payload, headers={"Idempotency-Key": identity})

    async def describe(self, server: FunctionServer) -> dict[str, Any]:
        described: dict[str, Any] = (await self._client.get(server.url)).json()
        return described

    async def run_to_end(
        self,
        identity: str,
        payload: Mapping[str, Any],
        servers: list[FunctionServer] | None = None,
        *,
        within: float = ENDS_WITHIN,
    ) -> WorkflowRun:
        """Deliver a trigger again and again, now here, now there, as its sender would, until its run has ended."""
        refused = "it was never answered"
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        answer = await self.deliver(self.chance.choice(servers or self.servers), identity, payload)
                    except httpx.TransportError as error:  # nobody is there, or no longer
                        refused = repr(error)
                    else:
                        refused = f"{answer.status_code}: {answer.text[:500]}"
                        if (run := ended(answer)) is not None:
                            return run
                    await asyncio.sleep(REDELIVERY_SECONDS)  # between deliveries; nothing is waited for
        except TimeoutError:
            raise AssertionError(f"the run of trigger {identity} does not end; the last answer: {refused}") from None

    def bodies(self) -> dict[str, dict[str, list[Body]]]:
        """Every execution so far: by run, then by step."""
        found: dict[str, dict[str, list[Body]]] = defaultdict(lambda: defaultdict(list))
        for line in self._bodies.read_text().splitlines():
            body = Body(**json.loads(line))
            found[body.run][body.step].append(body)
        return found

    async def body_begins(self, step: str) -> Body:
        """The first execution of ``step``, as soon as it has begun."""
        async with asyncio.timeout(ENDS_WITHIN):
            while True:
                for steps in self.bodies().values():
                    if step in steps:
                        return steps[step][0]
                await asyncio.sleep(0.01)  # another process tells by a file, which cannot be awaited

    def logs(self) -> str:
        return "\n".join(server.log_text() for server in self.servers)


def ended(answer: httpx.Response) -> WorkflowRun | None:
    """The run that has ended, if an answer says that and can be relied on."""
    if answer.status_code not in {200, 500}:
        return None
    run = WorkflowRun.model_validate_json(answer.content)
    assert run.status.is_terminal, answer.text
    assert answer.headers["Autopilot-Persisted"] == "true"
    assert (answer.status_code == 500) is (run.status is RunStatus.FAILED)
    return run
