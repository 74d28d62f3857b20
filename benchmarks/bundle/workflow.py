"""The main.py of an application: one durable function."""

import sys

# A requirement of the command line and not of a deployed function. structlog imports it wherever it is installed.
sys.modules["rich"] = None  # type: ignore[assignment]

from autopilot import entry_point  # noqa: E402

durable = entry_point("benchmarks.workflow:Sum", name="durable")
