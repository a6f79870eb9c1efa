"""`account disable`, `enable`, `delete` and `restore`: who may be here, and who was."""

import sys
from typing import Annotated

import typer

from mailserver.app.access import Access
from mailserver.cli.ages import parse_age
from mailserver.cli.target import ConfigFile, DataDir, Json, failing, run, show_done
from mailserver.errors import Forbidden
from mailserver.mail import closing
from mailserver.model import Account

Login = Annotated[str, typer.Argument(help="The account.")]


def disable(
    login: Login,
    refuse_mail: Annotated[
        bool, typer.Option("--refuse-mail", help="Refuse mail for it (550 5.2.1) until then.")
    ] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Let nobody log in to an account, and end its sessions; mail for it is still taken."""

    async def work(store: Access) -> Account:
        return await closing.disable(store.mail, login, refuse_mail=refuse_mail)

    account = run(work, data_dir=data_dir, config=config, json=json)
    mail = "refused" if refuse_mail else "still taken"
    show_done(json, f"{account.login} is disabled; mail for it is {mail}", **_shown(account))


def enable(
    login: Login, data_dir: DataDir = None, config: ConfigFile = None, json: Json = False
) -> None:
    """Let an account log in again, and take mail."""

    async def work(store: Access) -> Account:
        return await closing.enable(store.mail, login)

    account = run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"{account.login} is enabled", **_shown(account))


def delete(
    login: Login,
    after: Annotated[
        str, typer.Option(help="Until then it can come back: 12h, 30d; 0d: remove it now.")
    ] = "7d",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Delete an account and, after a time in which it can come back, all that it has."""
    with failing(json):
        span = parse_age(after)
        _confirm(login, after if span else "", yes)

    async def work(store: Access) -> Account:
        account = await closing.delete(store.mail, login, span)
        if not span:
            await closing.remove(store.mail, account.id, _progress(account, quiet=json))
        return account

    account = run(work, data_dir=data_dir, config=config, json=json)
    if not span:
        text = f"{account.login} and all that it had is removed"
    else:
        text = (
            f"{account.login} is deleted; all that it has is removed after "
            f"{account.remove_at:%Y-%m-%d %H:%M} UTC, and until then "
            f"`mailserver account restore {account.login}` brings it back"
        )
    show_done(json, text, **_shown(account))


def restore(
    login: Login, data_dir: DataDir = None, config: ConfigFile = None, json: Json = False
) -> None:
    """Let a deleted account come back, with all that it had; it is disabled then."""

    async def work(store: Access) -> Account:
        return await closing.restore(store.mail, login)

    account = run(work, data_dir=data_dir, config=config, json=json)
    text = f"{account.login} is back; `mailserver account enable` lets it log in"
    show_done(json, text, **_shown(account))


def _confirm(login: str, after: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Forbidden("nobody can be asked here: --yes says that the account is to be deleted")
    when = f"in {after}" if after else "now"
    typer.confirm(f"Delete {login}? All its mail is removed {when}.", abort=True, err=True)


class _progress:  # noqa: N801  (reads as a word where it is called)
    """Shows on a terminal how much of an account has been removed."""

    def __init__(self, account: Account, *, quiet: bool) -> None:
        self._account = account
        self._shown = not quiet and sys.stderr.isatty()
        self._rows = 0

    def __call__(self, rows: int) -> None:
        self._rows += rows
        if self._shown:
            typer.echo(f"\r{self._account.login}: {self._rows} rows removed", nl=False, err=True)


def _shown(account: Account) -> dict[str, object]:
    return {
        "login": account.login,
        "state": account.state,
        "mail": "taken" if account.takes_mail else "refused",
        "removed": account.remove_at,
    }
