"""A process that keeps one emulator for all test processes, and ends it with the last of them.

Run as a script, with nothing but the standard library: ``emulator_supervisor.py USERS STATE COMMAND...``. Every test
process that uses the emulator holds a shared lock on the file USERS. The operating system lets go of a lock when its
holder ends, however it ends; so when this process gets the exclusive lock, nobody is left. It keeps that lock until
the emulator is gone and STATE is removed, so that who comes meanwhile waits, and then starts a new one.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

POLL_SECONDS = 0.05


def supervise(users: Path, state: Path, command: list[str]) -> int:
    """Run ``command`` until it ends by itself or has no users; its exit code, 0 when it was stopped."""
    emulator = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    with users.open("a") as lock:
        while (code := emulator.poll()) is None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(POLL_SECONDS)
            else:
                break
        state.unlink(missing_ok=True)
        if code is not None:
            return code
        # It has nothing to save, and its JVM is a child of a shell script: end the whole group at once.
        os.killpg(emulator.pid, signal.SIGKILL)
        emulator.wait()
    return 0


if __name__ == "__main__":
    os.setsid()  # an interrupt at the terminal must not end it before the tests are done with the emulator
    sys.exit(supervise(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
