"""The test kit for workflow authors.

::

    async def test_an_order_survives_every_crash():
        await crash_matrix(TakeOrder, {"item": "tea"})
"""

from autopilot.testing.clock import ManualClock
from autopilot.testing.harness import Harness
from autopilot.testing.instance import InstanceKilled
from autopilot.testing.matrix import CrashMatrixFailed, CrashReport, crash_matrix
from autopilot.testing.simulation import SimulationFailed, SimulationReport, simulate
from autopilot.testing.store import MemoryStore
from autopilot.testing.trial import CrashPoint

__all__ = [
    "CrashMatrixFailed",
    "CrashPoint",
    "CrashReport",
    "Harness",
    "InstanceKilled",
    "ManualClock",
    "MemoryStore",
    "SimulationFailed",
    "SimulationReport",
    "crash_matrix",
    "simulate",
]
