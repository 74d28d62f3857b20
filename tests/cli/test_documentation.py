"""Every command is documented, and says what it is for."""

import re
from pathlib import Path

import pytest
import typer

from autopilot.cli.app import app
from autopilot.cli.exits import ExitCode

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
PLACES = [path for pattern in ("*.md", "docs/*.md", "terraform/*.md", "terraform/*.tf") for path in ROOT.glob(pattern)]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_has_help_and_a_section_with_an_example(name: str) -> None:
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)

    assert section is not None, f"docs/command.md has no section on {name}"
    assert f"$ autopilot {name}" in section[1]
    assert COMMANDS[name].help


@pytest.mark.parametrize("place", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(PLACES)])
def test_commands_and_options_that_are_named_are_there(place: Path) -> None:
    text = place.read_text(encoding="utf-8")
    for name, arguments in re.findall(r'(?:^\$ |[`"])autopilot ([a-z]+)([^|#\n`"]*)', text, re.MULTILINE):
        assert name in COMMANDS
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", arguments)) <= options, name


def test_every_exit_code_is_documented() -> None:
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)} == set(ExitCode)


def test_every_option_has_help_but_those_whose_name_says_it() -> None:
    silent = {
        parameter.name
        for command in COMMANDS.values()
        for parameter in command.params
        if not getattr(parameter, "help", None) and parameter.name not in {"help", "port", "limit"}
    }

    assert silent == set()
