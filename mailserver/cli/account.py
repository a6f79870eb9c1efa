"""`account`: the people and shared mailboxes that have mail here."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mailserver.app.access import Access
from mailserver.app.exits import Exit
from mailserver.app.secret import make_password
from mailserver.cli import account_closing
from mailserver.cli.account_file import Row, import_rows, read_rows
from mailserver.cli.sizes import parse_size
from mailserver.cli.target import ConfigFile, DataDir, Json, failing, run, show_done, show_rows
from mailserver.errors import Invalid
from mailserver.mail import accounts
from mailserver.model import Account

commands = typer.Typer(help="The accounts that have mail here.", no_args_is_help=True)
for _command in (
    account_closing.disable,
    account_closing.enable,
    account_closing.delete,
    account_closing.restore,
):
    commands.command()(_command)

PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of input.")
]
Generate = Annotated[
    bool, typer.Option("--generate", help="Make a password and print it once, without asking.")
]


@commands.command()
def add(
    login: Annotated[str, typer.Argument(help="alice@example.org; its domain must be ours.")],
    name: Annotated[str, typer.Option(help="The name of the person.")] = "",
    quota: Annotated[str | None, typer.Option(help="Room for mail, 500M or 10G.")] = None,
    password_stdin: PasswordStdin = False,
    generate: Generate = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Make an account."""
    with failing(json):
        room = None if quota is None else parse_size(quota)
        password, made = _password(password_stdin, generate)

    async def work(store: Access) -> Account:
        return await accounts.create(store.mail, login, name=name, password=password, quota=room)

    account = run(work, data_dir=data_dir, config=config, json=json)
    _report(json, f"account {account.login} made", account.login, password if made else None)


@commands.command()
def passwd(
    login: Annotated[str, typer.Argument(help="The account.")],
    password_stdin: PasswordStdin = False,
    generate: Generate = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Give an account a new password."""
    with failing(json):
        password, made = _password(password_stdin, generate)

    async def work(store: Access) -> None:
        await accounts.set_password(store.mail, login, password)

    run(work, data_dir=data_dir, config=config, json=json)
    _report(json, f"password of {login} changed", login, password if made else None)


@commands.command()
def rename(
    login: Annotated[str, typer.Argument(help="The account.")],
    new: Annotated[str, typer.Argument(help="Its new login; its domain must be ours.")],
    drop: Annotated[
        bool, typer.Option("--drop", help="Take no more mail for the old one.")
    ] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Give an account another login; the old one stays an address of it."""

    async def work(store: Access) -> Account:
        return await accounts.rename(store.mail, login, new, keep=not drop)

    account = run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"{login} is {account.login} now", login=account.login)


@commands.command("list")
def list_all(data_dir: DataDir = None, config: ConfigFile = None, json: Json = False) -> None:
    """List the accounts."""

    async def work(store: Access) -> list[Account]:
        return await accounts.list_all(store.mail)

    found = run(work, data_dir=data_dir, config=config, json=json)
    show_rows(
        [
            {
                "login": account.login,
                "name": account.name,
                "state": account.state,
                "mail": "taken" if account.takes_mail else "refused",
                "removed": account.remove_at,
                "used": account.quota_used,
                "quota": account.quota_limit,
            }
            for account in found
        ],
        json,
    )


@commands.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="login,name,password,quota,aliases")
    ],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Make many accounts. Each line is done whole or not at all, and a report says which.

    A line without a password gets one, shown in the report. Several aliases are divided by spaces.
    """
    with failing(json):
        rows = read_rows(file)

    async def work(store: Access) -> list[dict[str, object]]:
        return await import_rows(store.mail, rows)

    report = run(work, data_dir=data_dir, config=config, json=json)
    failed = [entry for entry in report if entry["error"]]
    show_rows(report if json else [*failed, *_with_password(report, rows)], json)
    if not json:
        typer.echo(f"{len(report) - len(failed)} accounts made, {len(failed)} failed", err=True)
    if failed:
        raise typer.Exit(Exit.FAILED)


def _with_password(report: list[dict[str, object]], rows: list[Row]) -> list[dict[str, object]]:
    """Return the entries whose password was made here: they are shown this once."""
    return [entry for entry in report if entry["password"] and not entry["error"]]


def _password(from_stdin: bool, generate: bool) -> tuple[str, bool]:
    """Return a password and whether it was made here; never taken from the command line."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise Invalid("no password on standard input")
        return password, False
    if generate or not sys.stdin.isatty():
        return make_password(), True
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password, False


def _report(json: bool, text: str, login: str, password: str | None) -> None:
    shown = "" if password is None else f"\npassword: {password}"
    made = {} if password is None else {"password": password}
    show_done(json, text + shown, login=login, **made)
