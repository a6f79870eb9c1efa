"""`domain`: the domains this server takes mail for."""

from typing import Annotated

import typer

from mailserver.address import normal_domain
from mailserver.app.access import Access
from mailserver.cli.target import ConfigFile, DataDir, Json, run, show_done, show_rows
from mailserver.mail import accounts, dkim
from mailserver.mail.dkim import KeyRow

commands = typer.Typer(help="The domains this server takes mail for.", no_args_is_help=True)


@commands.command()
def add(
    name: Annotated[str, typer.Argument(help="example.org")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Take mail for a domain, and make the keys that sign its mail."""

    async def work(store: Access) -> tuple[str, list[KeyRow]]:
        await accounts.add_domain(store.mail, name)
        domain = normal_domain(name)
        if not store.config.server.secret_key.get_secret_value():
            return domain, []
        return domain, await dkim.make_all(store.mail, domain)

    domain, keys = run(work, data_dir=data_dir, config=config, json=json)
    advice = f"publish what `mailserver dns records {domain}` prints"
    if not keys:
        advice = "its mail is not signed: set server.secret_key, then `mailserver dkim rotate`"
    selectors = [key.selector for key in keys]
    show_done(json, f"domain {domain} added; {advice}", domain=domain, selectors=selectors)


@commands.command()
def remove(
    name: Annotated[str, typer.Argument(help="example.org")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Take no more mail for a domain that has no addresses, and forget its keys."""

    async def work(store: Access) -> None:
        await accounts.remove_domain(store.mail, name)

    run(work, data_dir=data_dir, config=config, json=json)
    domain = normal_domain(name)
    show_done(json, f"domain {domain} removed", domain=domain)


@commands.command("list")
def list_all(data_dir: DataDir = None, config: ConfigFile = None, json: Json = False) -> None:
    """List the domains."""

    async def work(store: Access) -> list[str]:
        return await accounts.list_domains(store.mail)

    domains = run(work, data_dir=data_dir, config=config, json=json)
    show_rows([{"domain": domain} for domain in domains], json)
