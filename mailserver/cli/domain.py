"""`domain`: the domains this server takes mail for."""

from typing import Annotated

import typer

from mailserver.address import normal_domain
from mailserver.app.access import Access
from mailserver.cli.target import ConfigFile, DataDir, Json, run, show_done, show_rows
from mailserver.mail import accounts

commands = typer.Typer(help="The domains this server takes mail for.", no_args_is_help=True)


@commands.command()
def add(
    name: Annotated[str, typer.Argument(help="example.org")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Take mail for a domain."""

    async def work(store: Access) -> str:
        await accounts.add_domain(store.mail, name)
        return normal_domain(name)

    domain = run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"domain {domain} added", domain=domain)


@commands.command("list")
def list_all(data_dir: DataDir = None, config: ConfigFile = None, json: Json = False) -> None:
    """List the domains."""

    async def work(store: Access) -> list[str]:
        return await accounts.list_domains(store.mail)

    domains = run(work, data_dir=data_dir, config=config, json=json)
    show_rows([{"domain": domain} for domain in domains], json)
