"""The ``autopilot`` command."""

import sys

from autopilot.cli.output import print_aside

_EXTRAS = {"typer": "cli", "rich": "cli", "httpx": "cli", "itsdangerous": "cli", "google": "firestore"}
"""What only some uses of the package need, by the name that is imported."""


def main() -> None:
    """Run the command with this process's arguments, and exit with its code."""
    try:
        from autopilot.cli.app import app

        app(prog_name="autopilot")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print_aside(f"autopilot: {error.name} is not installed; pip install 'autopilot-workflows[{extra}]'")
        sys.exit(2)
