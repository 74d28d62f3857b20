"""The ``autopilot`` command."""

import sys


def main() -> None:
    """Run the command with this process's arguments, and exit with its code."""
    try:
        from autopilot.cli.app import app
    except ModuleNotFoundError as error:
        # Deployed functions do not carry what only the command needs.
        if error.name not in {"typer", "rich", "httpx", "itsdangerous"}:
            raise
        sys.exit(f"autopilot: {error.name} is not installed; pip install 'autopilot-workflows[cli]'")
    app(prog_name="autopilot")
