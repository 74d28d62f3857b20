"""What an application's main.py is: one durable function."""

from autopilot.entry_point import entry_point

durable = entry_point("benchmarks.workflow:Sum", name="durable")
