"""`dkim`: the keys that sign outgoing mail."""

from typing import Annotated

import typer

from mailserver.app.access import Access
from mailserver.cli.ages import parse_age
from mailserver.cli.target import ConfigFile, DataDir, Json, failing, run, show_done, show_rows
from mailserver.mail import dkim
from mailserver.mail.dkim import KeyRow
from mailserver.mime.dkim import record

commands = typer.Typer(help="The keys that sign outgoing mail.", no_args_is_help=True)

Domain = Annotated[str, typer.Argument(help="example.org")]


@commands.command("list")
def list_all(
    domain: Domain, data_dir: DataDir = None, config: ConfigFile = None, json: Json = False
) -> None:
    """List the keys of a domain and their records."""

    async def work(store: Access) -> list[KeyRow]:
        return await dkim.keys(store.mail, domain)

    found = run(work, data_dir=data_dir, config=config, json=json)
    show_rows([shown(row) for row in found], json)


@commands.command()
def rotate(
    domain: Domain,
    after: Annotated[str, typer.Option(help="Until the new keys sign: 2d, or 0s at once.")] = "2d",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Make new keys; publish their records now, and the old ones sign until then."""
    with failing(json):
        pause = parse_age(after)

    async def work(store: Access) -> list[KeyRow]:
        return await dkim.rotate(store.mail, domain, pause)

    found = run(work, data_dir=data_dir, config=config, json=json)
    show_rows([shown(row) for row in found], json)


@commands.command()
def remove(
    domain: Domain,
    selector: Annotated[str, typer.Argument(help="As `dkim list` shows it.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Remove a key."""

    async def work(store: Access) -> None:
        await dkim.remove(store.mail, domain, selector)

    run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"key {selector} of {domain} removed", domain=domain, selector=selector)


def shown(row: KeyRow) -> dict[str, object]:
    """Return what is shown of a key: all but the key."""
    return {
        "selector": row.selector,
        "algorithm": row.algorithm,
        "signs_from": row.signs_from,
        "signs_until": row.signs_until,
        "name": f"{row.selector}._domainkey.{row.domain}",
        "record": record(row.algorithm, row.public),
    }
