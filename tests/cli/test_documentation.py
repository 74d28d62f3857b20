"""Every command is documented, and says what it is for."""

import re
from pathlib import Path

import pytest
import typer

from autopilot.cli.app import app
from autopilot.cli.exits import ExitCode

PAGE = (Path(__file__).parents[2] / "docs" / "command.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_has_help_and_a_section_with_an_example(name: str) -> None:
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)

    assert section is not None, f"docs/command.md has no section on {name}"
    assert f"$ autopilot {name}" in section[1]
    assert COMMANDS[name].help


def test_the_page_names_commands_and_options_that_there_are() -> None:
    for name, arguments in re.findall(r"^\$ autopilot ([a-z]+)([^|#\n]*)", PAGE, re.MULTILINE):
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
