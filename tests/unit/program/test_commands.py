"""A command loads its own module, and the processes of a server only what they need."""

import subprocess
import sys

import pytest
import typer

from mailserver.cli.commands import NOUNS, VERBS, application

# what a server has no use for, and what only its workers use
FOREIGN = {"alembic", "sqlalchemy", "rich", "botocore", "opentelemetry", "publicsuffixlist"}
OF_WORKERS = {"asyncpg", "obstore", "cryptography", "hyperscan", "starlette", "dns", "uvicorn"}


def loaded(statement: str) -> set[str]:
    """Return the packages that a new interpreter has loaded after a statement."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("name", [*VERBS, *NOUNS])
def test_a_command_alone_is_the_same_as_among_all(name: str) -> None:
    whole = typer.main.get_command(application())
    alone = typer.main.get_command(application(name))
    assert list(alone.commands) == [name]  # type: ignore[attr-defined]
    assert words(alone.commands[name]) == words(whole.commands[name])  # type: ignore[attr-defined]


def words(command: object) -> object:
    """Return the names of all commands and options below a command."""
    nested = getattr(command, "commands", {})
    options = [each.name for each in command.params]  # type: ignore[attr-defined]
    return options, {name: words(child) for name, child in nested.items()}


def test_a_command_can_be_the_first_that_is_loaded() -> None:
    """Modules that need each other work only in some orders."""
    loaded(
        f"""
import sys
for command in {[*VERBS, *NOUNS]!r}:
    for name in [name for name in sys.modules if name.startswith("mailserver")]:
        del sys.modules[name]
    from mailserver.cli.commands import application
    application(command)
"""
    )


def test_the_command_line_of_a_server_loads_nothing_of_a_server() -> None:
    found = loaded("from mailserver.cli.commands import application\napplication('serve')")
    assert not found & (FOREIGN | OF_WORKERS | {"pydantic"})
    assert "typer" in found


def test_a_supervisor_loads_nothing_of_a_worker() -> None:
    found = loaded("import mailserver.app.__main__, mailserver.app.serve")
    assert not found & (FOREIGN | OF_WORKERS | {"typer"})
    assert "pydantic" in found


def test_a_worker_loads_no_tools() -> None:
    found = loaded("import mailserver.app.worker")
    assert not found & (FOREIGN | {"typer"})
    assert found >= OF_WORKERS - {"hyperscan"}
