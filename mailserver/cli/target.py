"""What a command works on, and how it reports: the options that every command shares."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

from mailserver import log as logs
from mailserver.app.exits import exit_code, reason
from mailserver.errors import MailError

if TYPE_CHECKING:
    from mailserver.app.access import Access

T = TypeVar("T")

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Data directory of `mailserver dev`, or of a server that embeds both."
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", envvar="MAILSERVER_CONFIG", help="Configuration file.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AccountOption = Annotated[
    str, typer.Option("--account", metavar="LOGIN", help="Whose mail, alice@example.org.")
]
MailboxOption = Annotated[
    str | None, typer.Option("--mailbox", metavar="NAME", help="Only this mailbox.")
]


def run(
    work: "Callable[[Access], Awaitable[T]]",
    *,
    data_dir: Path | None,
    config: Path | None,
    json: bool,
) -> T:
    """Do one thing with the store of mail and return its result; a failure ends the command."""
    from mailserver.app.access import access  # half of what a command loads; `serve` opens nothing

    async def opened() -> T:
        async with access(data_dir, config, os.environ) as store:
            return await work(store)

    logs.configure("text", "warning")
    with failing(json):
        return asyncio.run(opened())


class failing:  # noqa: N801  (reads as a word in a with statement)
    """Turn errors with a text for people into that text and an exit code."""

    def __init__(self, json: bool) -> None:
        self._json = json

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, MailError | OSError):
            return
        if self._json:
            show_json({"error": type(error).__name__, "text": reason(error)})
        else:
            typer.echo(f"mailserver: {reason(error)}", err=True)
        raise typer.Exit(exit_code(error)) from error


def show_json(value: object) -> None:
    """Print a value as JSON, indented."""
    typer.echo(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode())


def show_rows(rows: Sequence[Mapping[str, object]], json: bool) -> None:
    """Print rows as JSON, as a table on a terminal, and otherwise as lines with tabs."""
    if json:
        show_json(list(rows))
        return
    if not rows:
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        for row in rows:
            typer.echo("\t".join(_cell(value) for value in row.values()))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)


def show_done(json: bool, text: str, **fields: object) -> None:
    """Report that something was done: its fields as JSON, or a line."""
    if json:
        show_json(fields)
    else:
        typer.echo(text)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(str(item) for item in value)
    return str(value)
