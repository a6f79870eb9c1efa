"""`dns`: the records that a domain needs, and whether it has them."""

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from mailserver import tls
from mailserver.app.access import Access
from mailserver.app.exits import Exit
from mailserver.cli.target import ConfigFile, DataDir, Json, run, show_json, show_rows
from mailserver.dns import Resolver
from mailserver.mail import dns_check, publishing
from mailserver.mail.dns_check import Check, Finding
from mailserver.mail.publishing import TTL, Record
from mailserver.smtp.outbound.sts import fetch_policy

commands = typer.Typer(help="The DNS records that mail needs.", no_args_is_help=True)

Domain = Annotated[str, typer.Argument(help="example.org")]
TXT_PIECE = 255  # octets of one string of a TXT record, RFC 1035 §3.3


class Format(StrEnum):
    """Ways to write records down."""

    ZONE = "zone"
    JSON = "json"
    EXTERNAL_DNS = "external-dns"


@commands.command()
def records(
    domain: Domain,
    format_: Annotated[
        Format, typer.Option("--format", help="zone, json, or external-dns (a DNSEndpoint).")
    ] = Format.ZONE,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Print the records to publish."""

    async def work(store: Access) -> list[Record]:
        return await publishing.records(store.mail, domain)

    found = run(work, data_dir=data_dir, config=config, json=json)
    if json or format_ is Format.JSON:
        show_json([{"name": r.name, "type": r.kind, "value": r.value, "why": r.why} for r in found])
    elif format_ is Format.ZONE:
        typer.echo(zone(found))
    else:
        show_json(endpoint(found))


@commands.command()
def check(
    domain: Domain, data_dir: DataDir = None, config: ConfigFile = None, json: Json = False
) -> None:
    """Compare the records in DNS with those that should be there; exit code 1 when one fails."""

    async def work(store: Access) -> list[Check]:
        resolver = Resolver(store.config.dns, asyncio.get_running_loop().time)
        context = tls.client_context(verify=True)

        async def fetch(name: str) -> str:
            return await fetch_policy(resolver, name, context)

        return await dns_check.check(store.mail, domain, resolver, fetch)

    found = run(work, data_dir=data_dir, config=config, json=json)
    show_rows(
        [
            {"finding": c.finding, "name": c.record.name, "type": c.record.kind, "what": c.text}
            for c in found
        ],
        json,
    )
    if any(each.finding is Finding.FAIL for each in found):
        raise typer.Exit(Exit.FAILED)


def zone(found: list[Record]) -> str:
    """Return the records in the form of a zone file."""
    lines = []
    for each in found:
        value = each.value if each.kind != "TXT" else " ".join(_strings(each.value))
        lines.append(f"{each.name}. {TTL} IN {each.kind} {value}")
    return "\n".join(lines)


def _strings(text: str) -> list[str]:
    return [f'"{text[start : start + TXT_PIECE]}"' for start in range(0, len(text), TXT_PIECE)]


def endpoint(found: list[Record]) -> dict[str, object]:
    """Return a DNSEndpoint of external-dns; JSON is YAML."""
    targets: dict[tuple[str, str], list[str]] = {}
    for each in found:  # records of one name and type belong together
        dot = "" if each.kind in ("SRV", "TXT") else "."  # those of SRV need their last dot
        targets.setdefault((each.name, each.kind), []).append(each.value.removesuffix(dot))
    return {
        "apiVersion": "externaldns.k8s.io/v1alpha1",
        "kind": "DNSEndpoint",
        "metadata": {"name": f"mail-{found[0].name.replace('.', '-')}"},
        "spec": {
            "endpoints": [
                {"dnsName": name, "recordType": kind, "recordTTL": TTL, "targets": values}
                for (name, kind), values in targets.items()
            ]
        },
    }
