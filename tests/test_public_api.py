"""What a workflow's author imports, and what that costs."""

import subprocess
import sys

import autopilot

HEAVY = (
    "google.cloud.firestore",
    "google.api_core",
    "grpc",
    "httpx",
    "typer",
    "fastapi",
    "sqlite3",
    "functions_framework",
)


def test_the_names_are_sorted_and_there() -> None:
    assert autopilot.__all__ == sorted(autopilot.__all__)
    assert all(hasattr(autopilot, name) for name in autopilot.__all__)


def test_importing_autopilot_imports_no_database_no_server_and_no_client() -> None:
    code = f"import sys, autopilot; print(*(name for name in {HEAVY!r} if name in sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert loaded.stdout.split() == []
