"""`reports`: what other mail systems say about mail in our name and about TLS to us."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from mailserver.address import normal_domain
from mailserver.app.access import Access
from mailserver.cli.ages import parse_age
from mailserver.cli.target import ConfigFile, DataDir, Json, failing, run, show_json, show_rows
from mailserver.feedback import listing
from mailserver.feedback.model import Kind

commands = typer.Typer(help="Reports of other mail systems.", no_args_is_help=True)
dmarc = typer.Typer(help="DMARC: mail in the name of domains here.", no_args_is_help=True)
tls = typer.Typer(help="TLS of sessions with the servers here.", no_args_is_help=True)
commands.add_typer(dmarc, name="dmarc")
commands.add_typer(tls, name="tls")

Domain = Annotated[str | None, typer.Option(help="Only of this domain.")]
Since = Annotated[str, typer.Option(help="Of the last 12h, 30d.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many.")]
Id = Annotated[str, typer.Argument(help="Its id, as `list` shows it.")]


@dmarc.command("list")
def list_dmarc(
    domain: Domain = None,
    since: Since = "30d",
    limit: Limit = 100,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List the reports received, the newest first."""
    _list(Kind.DMARC, domain, since, limit, data_dir, config, json)


@dmarc.command("show")
def show_dmarc(
    id: Id, data_dir: DataDir = None, config: ConfigFile = None, json: Json = False
) -> None:
    """Show one report: who sent in the name of the domain, and what became of it."""
    report = _whole(Kind.DMARC, id, data_dir, config, json)
    if json:
        show_json(report)
        return
    typer.echo(_head(report, report["domain"], report["policy"]))
    show_rows(listing.dmarc_rows(report), json)


@tls.command("list")
def list_tls(
    domain: Domain = None,
    since: Since = "30d",
    limit: Limit = 100,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List the reports received, the newest first."""
    _list(Kind.TLS, domain, since, limit, data_dir, config, json)


@tls.command("show")
def show_tls(
    id: Id, data_dir: DataDir = None, config: ConfigFile = None, json: Json = False
) -> None:
    """Show one report: how many sessions were encrypted as they should, and why others were not."""
    report = _whole(Kind.TLS, id, data_dir, config, json)
    if json:
        show_json(report)
        return
    typer.echo(_head(report, " ".join(each["domain"] for each in report["policies"]), {}))
    show_rows(listing.tls_rows(report), json)


@dmarc.command("sent")
def sent_dmarc(
    since: Since = "30d",
    limit: Limit = 100,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List what became of reports to other domains: sent, or why not."""
    _sent(Kind.DMARC, since, limit, data_dir, config, json)


@tls.command("sent")
def sent_tls(
    since: Since = "30d",
    limit: Limit = 100,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List what became of reports to other domains: sent, or why not."""
    _sent(Kind.TLS, since, limit, data_dir, config, json)


@tls.command("sessions")
def sessions(
    domain: Domain = None,
    since: Since = "7d",
    limit: Limit = 100,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List how mail to other servers was encrypted in the last days, and why it was not."""
    with failing(json):
        name = normal_domain(domain) if domain is not None else None
        start = (datetime.now(UTC) - parse_age(since)).date()

    async def work(store: Access) -> list[dict[str, object]]:
        return await listing.sessions(store.database, name, start, limit)

    show_rows(run(work, data_dir=data_dir, config=config, json=json), json)


def _sent(
    kind: Kind, since: str, limit: int, data_dir: DataDir, config: ConfigFile, json: bool
) -> None:
    with failing(json):
        start = (datetime.now(UTC) - parse_age(since)).date()

    async def work(store: Access) -> list[dict[str, object]]:
        return await listing.sent(store.database, kind, start, limit)

    show_rows(run(work, data_dir=data_dir, config=config, json=json), json)


def _list(
    kind: Kind,
    domain: str | None,
    since: str,
    limit: int,
    data_dir: DataDir,
    config: ConfigFile,
    json: bool,
) -> None:
    with failing(json):
        name = normal_domain(domain) if domain is not None else None
        start = datetime.now(UTC) - parse_age(since)

    async def work(store: Access) -> list[dict[str, object]]:
        return await listing.newest(store.database, kind, name, start, limit)

    show_rows(run(work, data_dir=data_dir, config=config, json=json), json)


def _whole(
    kind: Kind, id: str, data_dir: DataDir, config: ConfigFile, json: bool
) -> dict[str, Any]:
    async def work(store: Access) -> dict[str, Any]:
        return await listing.whole(store.database, kind, id)

    return run(work, data_dir=data_dir, config=config, json=json)


def _head(report: dict[str, Any], domain: str, policy: dict[str, str]) -> str:
    begins, ends = (datetime.fromtimestamp(report[name], UTC) for name in ("begins", "ends"))
    published = " ".join(f"{name}={value}" for name, value in policy.items())
    return (
        f"{report['organization']} ({report['contact']}) about {domain},"
        f" {begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC"
        + (f", policy {published}" if published else "")
    )
