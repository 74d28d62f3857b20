"""A run on the Firestore emulator, beside a hand-written function that makes the same two commits."""

from google.cloud.firestore_v1 import DELETE_FIELD, SERVER_TIMESTAMP, AsyncClient, Increment, Maximum

from autopilot import TriggerType, WorkflowRun
from autopilot.core.clock import random_id
from autopilot.core.run_log import get_run_log_service
from benchmarks.environment import cloud_logging, settings
from benchmarks.measure import Line, interleave, timed
from benchmarks.workflow import PAYLOAD, Sum

MOST_TIMES = 1.15
ROUNDS = 400
WARM_UP = 400
"""A new emulator is several times slower than one that has compiled its code, which would hide our cost."""


class HandWritten:
    """The same documents without Autopilot: create and count, update and count again."""

    def __init__(self, client: AsyncClient, like: WorkflowRun) -> None:
        self._client = client
        self._like = like

    async def run(self) -> None:
        like, run_id = self._like, random_id()
        document = self._client.collection("runs").document(f"by_hand~{run_id}")
        counter = self._client.collection("workflows", "by_hand", "counters").document("0")
        batch = self._client.batch()
        batch.create(
            document,
            {
                "run": run_id,
                "workflow": "by_hand",
                "status": "running",
                "trigger_type": "http",
                "payload": '{"name":"benchmark","numbers":[1,2,3]}',
                "started_at": like.started_at,
                "attempt": 1,
                "due_at": like.completed_at,
                "version": like.version,
                "fingerprint": like.fingerprint,
                "payload_hash": like.payload_hash,
                "owner": random_id(),
                "incarnation": random_id(),
                "lease_ms": 555_000,
                "claimed_at": SERVER_TIMESTAMP,
                "counter": "0",
                "schema": 1,
            },
        )
        batch.set(counter, {"counts": {"running": Increment(1)}, "schema": Maximum(1)}, merge=True)
        created = await batch.commit(retry=None, timeout=5.0)

        batch = self._client.batch()
        batch.update(
            document,
            {
                "status": "success",
                "result": '{"name":"benchmark","total":6}',
                "completed_at": like.completed_at,
                "duration_ms": 0,
                "due_at": DELETE_FIELD,
                "expires_at": like.expires_at,
            },
            self._client.write_option(last_update_time=created[0].update_time),
        )
        batch.set(
            counter, {"counts": {"running": Increment(-1), "success": Increment(1)}, "schema": Maximum(1)}, merge=True
        )
        await batch.commit(retry=None, timeout=5.0)


async def measure(emulator: str) -> list[Line]:
    project = f"benchmark-{random_id()[:12]}"
    with (
        cloud_logging(),
        settings(AUTOPILOT_STORE="firestore", GOOGLE_CLOUD_PROJECT=project, FIRESTORE_EMULATOR_HOST=emulator),
    ):
        workflow = Sum()
        like = await workflow.run(TriggerType.HTTP, PAYLOAD)
        if await get_run_log_service().get_run(like.workflow_id, like.id) != like:
            raise RuntimeError("the run is not in the run log")
        run, by_hand = await interleave(
            ROUNDS,
            warm_up=WARM_UP,
            a_run_on_the_emulator=timed(lambda: workflow.run(TriggerType.HTTP, PAYLOAD)),
            the_same_commits_by_hand=timed(HandWritten(AsyncClient(project=project), like).run),
        )
    return [Line(measured=run, beside=by_hand, most_times=MOST_TIMES)]
