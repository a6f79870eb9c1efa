"""`alias`: further addresses of accounts, and addresses that lead to other servers."""

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
    login: Annotated[
        str, typer.Argument(help="The account that gets the mail, or an address elsewhere.")
    ],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Let an address lead to an account, or to an address on another server."""

    async def work(store: Access) -> None:
        if await accounts.is_here(store.mail, login):
            await accounts.add_alias(store.mail, address, login)
        else:
            await accounts.add_forward(store.mail, address, login)

    run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"{address} leads to {login}", address=address, login=login)


@commands.command()
def remove(
    address: Annotated[str, typer.Argument(help="The alias.")],
    login: Annotated[
        str, typer.Argument(help="Where it leads: an account, or an address elsewhere.")
    ],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Let an address no longer lead to an account, or to an address on another server."""

    async def work(store: Access) -> None:
        if await accounts.is_here(store.mail, login):
            await accounts.remove_alias(store.mail, address, login)
        else:
            await accounts.remove_forward(store.mail, address, login)

    run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"{address} leads no more to {login}", address=address, login=login)


@commands.command()
def unforward(
    address: Annotated[str, typer.Argument(help="The alias.")],
    target: Annotated[str, typer.Argument(help="The address elsewhere, as `alias list` has it.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Let an address no longer lead to one on another server."""

    async def work(store: Access) -> None:
        await accounts.remove_forward(store.mail, address, target)

    run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"{address} leads no more to {target}", address=address, target=target)


@commands.command("list")
def list_all(data_dir: DataDir = None, config: ConfigFile = None, json: Json = False) -> None:
    """List the aliases."""

    async def work(store: Access) -> list[tuple[str, str]]:
        return await accounts.list_aliases(store.mail)

    aliases = run(work, data_dir=data_dir, config=config, json=json)
    show_rows([{"address": address, "login": login} for address, login in aliases], json)
