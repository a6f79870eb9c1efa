"""The documents name every key, metric, command, exit code and capability, and no others."""

import re
from pathlib import Path
from typing import Any

import typer

from mailserver.app.exits import Exit
from mailserver.cli.commands import application
from mailserver.config import Config
from mailserver.config_file import settings
from mailserver.imap.commands import CAPABILITIES, COMMANDS
from mailserver.jmap import methods
from mailserver.metrics import Metrics

OPERATE = (Path(__file__).parents[3] / "docs" / "operate.md").read_text()


def section(title: str) -> str:
    """Return the text below a heading of the second level."""
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", OPERATE, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the tables below a heading, without the head of each table."""
    found = []
    for line in section(title).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            found.append(cells)
    return found


def paths(command: Any, path: str = "mailserver") -> list[tuple[str, Any]]:
    """List every command that does something, with the words that call it."""
    nested = getattr(command, "commands", None)
    if nested is None:
        return [(path, command)]
    return [row for name, child in nested.items() for row in paths(child, f"{path} {name}")]


def test_every_key_with_its_variable_default_and_meaning() -> None:
    described = {cells[0]: cells[1:] for cells in rows("Configuration")}
    expected = {
        f"`{setting.name}`": [f"`{default_text(setting.name)}`", setting.description]
        for setting in settings(Config())
    }
    assert described == expected


def default_text(name: str) -> str:
    value: object = Config()
    for part in name.split("."):
        value = getattr(value, part)
    text = "" if value is None else str(value)
    return text or '""'


def test_every_metric() -> None:
    text = Metrics("mailserver").render().decode()
    names = set(re.findall(r"^# HELP (\S+)", text, re.MULTILINE))
    names = {name for name in names if not name.endswith("_created")}
    assert {cells[0].strip("`") for cells in rows("Metrics")} == names


def test_every_command_and_option() -> None:
    text = section("Commands")
    described = {cells[0].strip("`") for cells in rows("Commands")}
    commands = paths(typer.main.get_command(application()))
    assert described == {path for path, _ in commands}
    for path, command in commands:
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert parameter.opts[0] in text, f"{path} {parameter.opts[0]}"


def test_every_exit_code() -> None:
    assert {cells[0] for cells in rows("Exit codes")} == {f"`{code.value}`" for code in Exit}


IMAP = (Path(__file__).parents[3] / "docs" / "imap.md").read_text()
JMAP = (Path(__file__).parents[3] / "docs" / "jmap.md").read_text()


def first_cells(title: str, document: str = IMAP) -> set[str]:
    """Return the words in the first cells of a table of docs/imap.md or docs/jmap.md."""
    match = re.search(rf"^## {title}\n(.*?)(?=^## )", document, re.MULTILINE | re.DOTALL)
    assert match, title
    cells = re.findall(r"^\| (`.*?) \|", match[1], re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def test_every_imap_command() -> None:
    assert first_cells("Commands") == {name.decode() for name in COMMANDS}


def test_every_imap_capability() -> None:
    named = {name.decode() for name, _ in CAPABILITIES}
    assert first_cells("Capabilities") == named | {"APPENDLIMIT", "MESSAGELIMIT", "SAVELIMIT"}


def test_every_jmap_method_and_capability() -> None:
    assert first_cells("Methods", JMAP) == methods.METHODS.keys()
    assert first_cells("Capabilities", JMAP) == methods.CAPABILITIES.keys()
