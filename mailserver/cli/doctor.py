"""`doctor`: what is wrong, and what to do about it."""

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer

from mailserver import log as logs
from mailserver.address import parse_address
from mailserver.antispam.dnsbl import DnsLists, chosen
from mailserver.app import filters, presence
from mailserver.app.access import Access, access, data_directory
from mailserver.app.exits import Exit, reason
from mailserver.cli.target import ConfigFile, DataDir, Json, failing, show_rows
from mailserver.config_file import load, problems_for_service
from mailserver.dns import LookupFailed, Resolver
from mailserver.dns.records import NS
from mailserver.errors import MailError, Unavailable
from mailserver.mail import accounts, recipients
from mailserver.storage import health, migrate

PROBE = "doctor-probe"
SLOW = 0.05  # seconds for one statement
CERTIFICATE_DAYS = 21
FREE_SPACE = 1 << 30  # bytes
OWN_DISKS = ("postgresql/data/base", "postgresql/data/pg_wal", "seaweedfs")  # may be on others
DNS_TIMEOUT = 10.0  # seconds for all resolvers
CONNECT_TIMEOUT = 3.0  # seconds

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    state: str
    detail: str
    advice: str = ""


def doctor(data_dir: DataDir = None, config: ConfigFile = None, json: Json = False) -> None:
    """Check configuration, PostgreSQL, S3, certificate, issuer, listeners; say what to do."""

    logs.configure("text", "warning")
    with failing(json):
        findings, code = asyncio.run(_examine(data_dir and data_dir.absolute(), config))
    show_rows(
        [
            {"check": one.check, "state": one.state, "detail": one.detail, "advice": one.advice}
            for one in findings
        ],
        json,
    )
    if code != Exit.OK:
        raise typer.Exit(code)


async def _examine(data_dir: Path | None, config: Path | None) -> tuple[list[Finding], Exit]:
    """Make all checks; without PostgreSQL those that may tell why it is away."""
    try:
        async with access(data_dir, config, os.environ) as store:
            findings = await _findings(store, data_dir)
    except Unavailable as error:
        directory = data_directory(data_dir, load(config, os.environ).config)
        broken = Finding("database", FAIL, reason(error), "the log of PostgreSQL says more")
        return [broken, *_disks(directory)], Exit.UNAVAILABLE
    failed = any(one.state == FAIL for one in findings)
    return findings, Exit.FAILED if failed else Exit.OK


async def _findings(store: Access, data_dir: Path | None) -> list[Finding]:
    findings: list[Finding] = []
    for check in CHECKS:
        findings += await check(store)
    document = await presence.find(data_dir) if data_dir is not None else None
    for name, (host, port) in (document or {}).get("listeners", {}).items():
        findings.append(await _listener(name, host, port))
    return findings


async def _configuration(store: Access) -> list[Finding]:
    if store.embedded:
        return [Finding("configuration", OK, "embedded services")]
    problems = problems_for_service(store.config)
    return [
        Finding("configuration", FAIL, problem, "see docs/operate.md") for problem in problems
    ] or [Finding("configuration", OK, "complete")]


async def _database(store: Access) -> list[Finding]:
    started = time.perf_counter()
    writable = await health.writable(store.database)
    took = time.perf_counter() - started
    if not writable:
        advice = "point database.url at the primary"
        return [Finding("database", FAIL, "read-only", advice)]
    detail = f"writable, a statement takes {took * 1000:.1f} ms"
    if took > SLOW:
        return [Finding("database", WARN, detail, "bring server and database closer together")]
    return [Finding("database", OK, detail)]


async def _schema(store: Access) -> list[Finding]:
    version, newest = await migrate.current(store.database), migrate.newest()
    if version == newest:
        return [Finding("schema", OK, newest)]
    if version is not None and version > newest:
        return [Finding("schema", WARN, f"{version}, made for a newer program", "upgrade")]
    return [Finding("schema", FAIL, f"{version}, needed is {newest}", "run `mailserver migrate`")]


async def _s3(store: Access) -> list[Finding]:
    """Write, read, read a part, delete."""
    data = os.urandom(1024)
    name = f"{PROBE}-{os.urandom(4).hex()}"
    started = time.perf_counter()
    try:
        await store.blobs.put(name, data)
        whole = await store.blobs.get(name, 0, len(data))
        part = await store.blobs.get(name, 100, 100)
        await store.blobs.delete(name)
    except MailError as error:
        advice = "check s3.endpoint, s3.bucket and the keys; mail still arrives meanwhile"
        return [Finding("s3", FAIL, reason(error), advice)]
    if whole != data or part != data[100:200]:
        return [Finding("s3", FAIL, "it returns other octets than were written", "replace it")]
    took = (time.perf_counter() - started) * 1000
    return [Finding("s3", OK, f"write, read, read a part and delete take {took:.0f} ms")]


async def _certificate(store: Access) -> list[Finding]:
    path = store.config.tls.certificate
    if path is None:
        return []
    from cryptography import x509

    with _readable("certificate") as failed:
        certificate = x509.load_pem_x509_certificate(await asyncio.to_thread(path.read_bytes))
    if failed:
        return failed
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    detail = f"{path}: ends in {left.days} days"
    if left < timedelta(0):
        return [Finding("certificate", FAIL, f"{path}: expired", "renew it; no restart is needed")]
    if left < timedelta(days=CERTIFICATE_DAYS):
        return [Finding("certificate", WARN, detail, "renew it; no restart is needed")]
    return [Finding("certificate", OK, detail)]


@contextmanager
def _readable(check: str) -> Iterator[list[Finding]]:
    failed: list[Finding] = []
    try:
        yield failed
    except (OSError, ValueError) as error:
        failed.append(Finding(check, FAIL, reason(error), "give a PEM file that can be read"))


async def _issuer(store: Access) -> list[Finding]:
    oauth = store.config.oauth
    if not oauth.issuer:
        return []
    from mailserver.auth.issuer import Issuer

    try:
        keys = await Issuer(oauth).fetch_keys()
    except MailError as error:
        advice = (
            "check oauth.issuer; nobody can log in with a token unless keys were fetched before"
        )
        return [Finding("issuer", FAIL, reason(error), advice)]
    return [Finding("issuer", OK, f"{oauth.issuer}: {len(keys)} keys")]


async def _dns_lists(store: Access) -> list[Finding]:
    """Ask lists in DNS for their test points."""
    settings = store.config.antispam
    if not settings.enabled or not settings.dns_lists:
        return []
    keys = settings.dns_list_keys.current()
    definitions = chosen(settings.dns_lists, settings.dns_lists_file, keys)
    resolver = Resolver(store.config.dns, time.monotonic)
    lists = DnsLists(definitions, resolver, store.mail.metrics)
    await lists.test()
    advice = "most lists answer only a resolver of one's own: dns.servers"
    return [
        Finding(f"list {each.name}", OK, "its test points are right")
        if each.usable
        else Finding(f"list {each.name}", WARN, f"not used: {each.reason}", advice)
        for each in lists.all
    ]


async def _engines(store: Access) -> list[Finding]:
    """Ask what looks at mail whether it is what the configuration says."""
    found = []
    for engine in filters.engines(store.config):
        try:
            answers = await engine.check()
        finally:
            await engine.close()
        for address, problem in answers:
            check = f"engine {engine.name}"
            if problem:
                found.append(Finding(check, FAIL, problem, "check kind and address of the engine"))
            else:
                found.append(Finding(check, OK, f"{address} answers"))
    return found


async def _dns(store: Access) -> list[Finding]:
    """Ask the resolvers for the root, which is signed."""
    settings = store.config.dns
    resolver = Resolver(settings.model_copy(update={"validating": True}), time.monotonic)
    try:
        answer = await resolver.lookup(".", NS, asyncio.get_running_loop().time() + DNS_TIMEOUT)
    except LookupFailed as failed:
        advice = "check dns.servers; without DNS no mail leaves and none is checked"
        return [Finding("dns", WARN, failed.reason, advice)]
    if not answer.secure and settings.validating:
        advice = "dns.validating needs resolvers that check signatures, as unbound does"
        return [Finding("dns", WARN, "the answers are not checked", advice)]
    if not answer.secure:
        return [Finding("dns", OK, "resolvers answer; they check no signatures: no DANE")]
    return [Finding("dns", OK, "resolvers answer, and check signatures")]


async def _reports(store: Access) -> list[Finding]:
    """Look whether the addresses for reports are those of somebody."""
    settings = store.config.reports
    sending = settings.dmarc or settings.tls
    found = []
    for word in [*settings.addresses.split(), *([settings.sender] if sending else [])]:
        if (await recipients.resolve(store.mail, parse_address(word))).accounts:
            found.append(Finding("reports", OK, f"{word} is an address here"))
        else:
            advice = "`mailserver alias add`, or correct reports.addresses or reports.sender"
            found.append(Finding("reports", FAIL, f"{word} is nobody's address", advice))
    return found


async def _directory(store: Access) -> list[Finding]:
    accounts_known = len(await accounts.list_all(store.mail))
    domains = await accounts.list_domains(store.mail)
    if not domains:
        advice = "`mailserver domain add example.org`"
        return [Finding("domains", WARN, "none: no mail is taken for anybody", advice)]
    return [Finding("domains", OK, f"{len(domains)} domains, {accounts_known} accounts")]


async def _disk(store: Access) -> list[Finding]:
    return _disks(store.directory)


def _disks(directory: Path | None) -> list[Finding]:
    if directory is None:
        return []
    places = [directory, *(directory / part for part in OWN_DISKS)]
    disks: dict[int, Path] = {}
    for place in places:
        if place.exists():
            disks.setdefault(place.stat().st_dev, place)
    return [_free(place) for place in disks.values()]


def _free(directory: Path) -> Finding:
    free = shutil.disk_usage(directory).free
    detail = f"{free / (1 << 30):.1f} GiB free in {directory}"
    if free < FREE_SPACE:
        return Finding("disk", FAIL, detail, "make room: PostgreSQL stops when the disk is full")
    return Finding("disk", OK, detail)


async def _listener(name: str, host: str, port: int) -> Finding:
    check = f"listener {name}"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):
        return Finding(check, FAIL, f"{host}:{port} does not accept", "look into the log")
    return Finding(check, OK, f"{host}:{port} accepts")


CHECKS: tuple[Callable[[Access], Awaitable[list[Finding]]], ...] = (
    _configuration,
    _database,
    _schema,
    _s3,
    _certificate,
    _issuer,
    _engines,
    _dns_lists,
    _dns,
    _reports,
    _directory,
    _disk,
)
