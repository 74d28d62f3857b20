"""The ``autopilot`` command."""

import sys

_EXTRAS = {"typer": "cli", "rich": "cli", "httpx": "cli", "itsdangerous": "cli", "google": "firestore"}
"""The extra of the package that installs an optional dependency, by the name that is imported."""


def main() -> None:
    """Run the command with this process's arguments, and exit with its code."""
    try:
        from autopilot.cli.app import app

        app(prog_name="autopilot")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        install = f"pip install 'autopilot-workflows[{extra}]'"
        sys.stderr.write(f"autopilot: {error.name} is not installed. Install it with: {install}\n")
        sys.exit(2)
