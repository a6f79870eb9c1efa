"""`queue route`: how mail for a domain leaves."""

import asyncio
import random
import sys
from typing import Annotated

import typer

from mailserver.address import normal_domain, parse_address
from mailserver.app.access import Access
from mailserver.cli.ages import parse_age
from mailserver.cli.target import ConfigFile, DataDir, Json, failing, run, show_done, show_rows
from mailserver.dns import Resolver
from mailserver.errors import Invalid, NotFound
from mailserver.mail import outgoing
from mailserver.queue import routes
from mailserver.queue.routes import EVERY, SEALED_FOR, TlsLevel
from mailserver.sealing import Seal
from mailserver.smtp.outbound.route import NoRoute, Own, Router
from mailserver.storage import queue_routes
from mailserver.storage.queue_routes import RouteRow

commands = typer.Typer(help="How mail for a domain leaves.", no_args_is_help=True)

Which = Annotated[str, typer.Argument(metavar="DOMAIN", help="example.org, or * for every other.")]


@commands.command("list")
def list_all(data_dir: DataDir = None, config: ConfigFile = None, json: Json = False) -> None:
    """List the routes; domains without one leave as DNS says."""

    async def work(store: Access) -> list[RouteRow]:
        return await queue_routes.all_routes(store.database)

    found = run(work, data_dir=data_dir, config=config, json=json)
    show_rows([_shown(row) for row in found], json)


@commands.command("set")
def set_route(
    domain: Which,
    host: Annotated[
        str | None, typer.Option(help="The smarthost; without it: as DNS says.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Its port.")] = None,
    tls: Annotated[
        TlsLevel, typer.Option(help="none, may (if offered), encrypt, or verify (certificate).")
    ] = TlsLevel.MAY,
    login: Annotated[str | None, typer.Option(help="Login at the smarthost.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read its password from the input.")
    ] = False,
    retry_first: Annotated[str | None, typer.Option(help="To the second attempt: 5m.")] = None,
    retry_longest: Annotated[str | None, typer.Option(help="Between two attempts: 4h.")] = None,
    expire: Annotated[str | None, typer.Option(help="Given up after: 5d.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Connections of one process at most.")
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Say how mail for a domain leaves; what was said before is replaced."""
    with failing(json):
        if login is not None and (host is None or tls in (TlsLevel.NONE, TlsLevel.MAY)):
            raise Invalid("a login needs --host, and --tls encrypt or verify")
        if login is not None and not password_stdin:
            raise Invalid("give the password with --password-stdin")
        name = domain if domain == EVERY else normal_domain(domain)
        password = sys.stdin.readline().rstrip("\r\n") if password_stdin else ""

    async def work(store: Access) -> RouteRow:
        seal = Seal(store.config.server.secret_key)
        row = RouteRow(
            name,
            host,
            port,
            tls.value,
            login,
            seal.seal(password.encode(), SEALED_FOR) if login is not None else None,
            _seconds(retry_first),
            _seconds(retry_longest),
            _seconds(expire),
            concurrency,
        )
        await queue_routes.store(store.database, row)
        return row

    with failing(json):
        for span in (retry_first, retry_longest, expire):
            _seconds(span)
    row = run(work, data_dir=data_dir, config=config, json=json)
    way = row.host or "the hosts that DNS names"
    show_done(json, f"mail for {name} leaves by {way}", **_shown(row))


@commands.command()
def remove(
    domain: Which, data_dir: DataDir = None, config: ConfigFile = None, json: Json = False
) -> None:
    """Let mail for a domain leave as every other again."""

    async def work(store: Access) -> None:
        if not await queue_routes.remove(store.database, domain.lower()):
            raise NotFound(f"{domain} has no route of its own")

    run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"the route of {domain} is gone", domain=domain)


@commands.command()
def explain(
    address: Annotated[str, typer.Argument(help="A recipient, or a domain.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Say where mail to somebody would go, asking DNS now."""
    with failing(json):
        recipient = address if "@" in address else f"postmaster@{address}"
        domain = parse_address(recipient).domain

    async def work(store: Access) -> list[dict[str, object]]:
        return await _way(store, recipient, domain)

    show_rows(run(work, data_dir=data_dir, config=config, json=json), json)


async def _way(store: Access, recipient: str, domain: str) -> list[dict[str, object]]:
    settings = store.config.outbound
    if await outgoing.is_here(store.mail, recipient):
        return [{"domain": domain, "way": "this server", "host": "", "address": ""}]
    route = await routes.find(store.database, domain, settings)
    loop = asyncio.get_running_loop()
    router = Router(
        Resolver(store.config.dns, loop.time),
        Own.of(store.config.server.hostname, settings.own_names),
        settings.port,
        random.Random(),  # noqa: S311  (the order of equal hosts)
    )
    way = "MX" if route.smarthost is None else f"smarthost, route {route.domain}"
    try:
        hops = await router.hops(domain, route)
    except NoRoute as none:
        return [{"domain": domain, "way": none.outcome.reply, "host": "", "address": ""}]
    return [
        {"domain": domain, "way": way, "host": hop.host, "address": f"{hop.address}:{hop.port}"}
        for hop in hops
    ]


def _seconds(text: str | None) -> int | None:
    return None if text is None else int(parse_age(text).total_seconds())


def _shown(row: RouteRow) -> dict[str, object]:
    return {
        "domain": row.domain,
        "host": row.host,
        "port": row.port,
        "tls": row.tls,
        "login": row.login,
        "retry_first": row.retry_first,
        "retry_longest": row.retry_longest,
        "expire_after": row.expire_after,
        "concurrency": row.concurrency,
    }
