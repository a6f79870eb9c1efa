"""`alias`: further addresses of accounts."""

from typing import Annotated

import typer

from mailserver.app.access import Access
from mailserver.cli.target import ConfigFile, DataDir, Json, run, show_done, show_rows
from mailserver.mail import accounts

commands = typer.Typer(help="Further addresses of accounts.", no_args_is_help=True)


@commands.command()
def add(
    address: Annotated[
        str, typer.Argument(help="sales@example.org, or @example.org for all that is left.")
    ],
    login: Annotated[str, typer.Argument(help="The account that gets the mail.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Let an address lead to an account."""

    async def work(store: Access) -> None:
        await accounts.add_alias(store.mail, address, login)

    run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"{address} leads to {login}", address=address, login=login)


@commands.command("list")
def list_all(data_dir: DataDir = None, config: ConfigFile = None, json: Json = False) -> None:
    """List the aliases."""

    async def work(store: Access) -> list[tuple[str, str]]:
        return await accounts.list_aliases(store.mail)

    aliases = run(work, data_dir=data_dir, config=config, json=json)
    show_rows([{"address": address, "login": login} for address, login in aliases], json)
