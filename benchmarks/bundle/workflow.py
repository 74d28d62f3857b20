"""What an application's main.py is: one durable function."""

import sys

# No requirement of a deployed function, but of the command line. structlog imports it wherever it is installed.
sys.modules["rich"] = None  # type: ignore[assignment]

from autopilot.function.entry_point import entry_point  # noqa: E402

durable = entry_point("benchmarks.workflow:Sum", name="durable")
