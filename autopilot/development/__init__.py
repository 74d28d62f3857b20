"""A bundle on a developer's machine: every function, the API, the dashboard and the schedules in one process.

``autopilot dev`` is two processes. The parent (:mod:`.reloader`) holds the port and watches the files; the child
(:mod:`.__main__`) serves, and is replaced when a file changes. The next child continues the runs that this interrupts
(:mod:`autopilot.dispatch.local`).
"""
