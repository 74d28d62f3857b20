"""The dashboard: pages rendered on the server, over the reads and actions of :mod:`autopilot.api`."""
