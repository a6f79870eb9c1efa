"""`mailserver dns`: what it says is to be published is what it finds right."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dns.zone
import pytest
import pytest_asyncio

from mailserver.config import Config, Dns, Reports
from mailserver.dns import LookupFailed, Resolver
from mailserver.mail import accounts, discovery, dkim, dns_check, publishing
from mailserver.mail.context import Mail
from mailserver.mail.dns_check import Finding
from mailserver.tls import make_development_ca
from tests.conftest import Bucketed
from tests.name_server import NameServer
from tests.signed_dns import SignedDns

Command = Callable[..., Awaitable[str]]
HOST = "mail.mine.test"


@pytest.fixture
def config() -> Config:
    return Config.model_validate({"server": {"hostname": HOST, "secret_key": "of the tests"}})


@pytest_asyncio.fixture
async def domain(mail: Mail) -> str:
    await accounts.add_domain(mail, "mine.test")
    await dkim.make_all(mail, "mine.test")
    return "mine.test"


@pytest.fixture
def command(dsn: str, bucket: Bucketed, domain: str, tmp_path: Path) -> Command:
    """Run `mailserver dns` on the store of the test, asking a resolver."""
    place = bucket.bucket
    files = make_development_ca(tmp_path / "tls", [HOST], datetime.now(UTC))
    environment = {
        **os.environ,
        "MAILSERVER_DATABASE__URL": dsn,
        "MAILSERVER_S3__ENDPOINT": place.endpoint,
        "MAILSERVER_S3__ACCESS_KEY": place.access_key,
        "MAILSERVER_S3__SECRET_KEY": place.secret_key,
        "MAILSERVER_SERVER__SECRET_KEY": "of the tests",
        "MAILSERVER_SERVER__HOSTNAME": HOST,
        "MAILSERVER_TLS__CERTIFICATE": str(files.certificate),
        "MAILSERVER_TLS__KEY": str(files.key),
        "MAILSERVER_DNS__VALIDATING": "true",
        "MAILSERVER_DNS__TIMEOUT": "60",
    }

    async def run(*words: str, server: str = "", code: int = 0) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "mailserver", "dns", *words],
            env={**environment, "MAILSERVER_DNS__SERVERS": server},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


async def check(command: Command, server: str, code: int = 0) -> dict[tuple[str, str], Any]:
    rows = json.loads(await command("check", "mine.test", "--json", server=server, code=code))
    return {(row["name"], row["type"]): row for row in rows}


@pytest_asyncio.fixture
async def names() -> AsyncIterator[NameServer]:
    server = NameServer()
    await server.start()
    yield server
    server.stop()


async def test_what_is_published_as_it_is_printed_is_right(
    command: Command, tmp_path: Path
) -> None:
    printed = await command("records", "mine.test", "--format", "zone")
    zone = f"{printed}\n{HOST}. 60 IN A 127.0.0.2\n"
    server = SignedDns(tmp_path / "dns", further=zone)
    try:
        await server.start()
        found = await check(command, server.server)
    finally:
        await server.stop()
    assert {row["finding"] for row in found.values()} == {"ok", "warn"}
    warned = {key: row for key, row in found.items() if row["finding"] == "warn"}
    # it has another name, and nobody listens there
    assert set(warned) == {("127.0.0.2", "PTR"), ("https://mta-sts.mine.test", "policy")}
    assert "is called mx1.example.test" in warned["127.0.0.2", "PTR"]["what"]
    kinds = [kind for _, kind in found]
    assert {"MX", "TXT", "TLSA", "SRV", "CNAME", "A"} < set(kinds)
    assert ("_mta-sts.mine.test", "TXT") in found
    assert (f"_25._tcp.{HOST}", "TLSA") in found


async def test_the_forms_have_the_same_records(command: Command) -> None:
    listed = json.loads(await command("records", "mine.test", "--format", "json"))
    text = await command("records", "mine.test")
    zone = dns.zone.from_text(
        f"mine.test. 60 IN SOA ns root 1 2 3 4 5\nmine.test. 60 IN NS ns\n{text}",
        origin="mine.test.",
        relativize=False,
    )
    in_zone = {
        (name.to_text(omit_final_dot=True), rdata.rdtype.name)
        for name, _, rdata in zone.iterate_rdatas()
    } - {("mine.test", "SOA"), ("mine.test", "NS")}
    assert in_zone == {(row["name"], row["type"]) for row in listed}
    endpoint = json.loads(await command("records", "mine.test", "--format", "external-dns"))
    endpoints = endpoint["spec"]["endpoints"]
    assert {(each["dnsName"], each["recordType"]) for each in endpoints} == in_zone
    assert sum(len(each["targets"]) for each in endpoints) == len(listed)
    assert [HOST] in [each["targets"] for each in endpoints if each["recordType"] == "CNAME"]


async def test_reports_go_to_an_address_that_is_looked_through(mail: Mail, domain: str) -> None:
    async def addresses(told: str) -> set[str]:
        mail.config = mail.config.model_copy(update={"reports": Reports(addresses=told)})
        found = await publishing.records(mail, domain)
        return {each.value.partition("mailto:")[2] for each in found if "mailto:" in each.value}

    assert await addresses("") == {"postmaster@mine.test"}
    assert await addresses("r@other.test reports@Mine.test") == {"reports@Mine.test"}


async def test_a_domain_without_keys_is_told_of(mail: Mail, signed_dns: SignedDns) -> None:
    settings = Dns.model_validate({"servers": signed_dns.server})
    found = await dns_check.check(mail, "example.test", Resolver(settings, time.monotonic))
    (told,) = [each for each in found if each.record.name == "_domainkey.example.test"]
    assert told.finding is Finding.WARN
    assert "dkim rotate" in told.text


async def test_the_policy_that_others_find_is_looked_at(
    mail: Mail, domain: str, signed_dns: SignedDns
) -> None:
    settings = Dns.model_validate({"servers": signed_dns.server})
    resolver = Resolver(settings, time.monotonic)
    here = discovery.policy(mail.config)
    assert here is not None

    async def finding(answer: str | Exception) -> Finding:
        async def fetch(name: str) -> str:
            assert name == domain
            if isinstance(answer, Exception):
                raise answer
            return answer

        found = await dns_check.check(mail, domain, resolver, fetch)
        (told,) = [each.finding for each in found if each.record.kind == "policy"]
        return told

    assert await finding(here) is Finding.OK
    assert await finding(here.replace("\r\n", "\n")) is Finding.OK
    assert await finding(here.replace("testing", "enforce")) is Finding.WARN
    for error in (TimeoutError(), ConnectionRefusedError("refused"), LookupFailed("no answer")):
        assert await finding(error) is Finding.WARN


async def test_each_fault_is_named_with_what_to_do(
    command: Command, names: NameServer, mail: Mail
) -> None:
    names.add("mine.test", "MX", "10 mx.elsewhere.test.")
    names.add("mine.test", "TXT", '"v=spf1 +all"', '"unrelated"')
    names.add("_dmarc.mine.test", "TXT", '"v=DMARC1; p=none"', '"v=DMARC1; p=reject"')
    names.add("_mta-sts.mine.test", "TXT", '"v=STSv1; id=old;"')
    names.add("_imaps._tcp.mine.test", "SRV", "0 1 993 imap.elsewhere.test.")
    names.add(f"_25._tcp.{HOST}", "TLSA", f"3 1 1 {'00' * 32}")
    names.add("autoconfig.mine.test", "A", "127.0.0.99")
    names.failing.add("_smtp._tls.mine.test")
    keys = await dkim.keys(mail, "mine.test")
    selector = f"{keys[0].selector}._domainkey.mine.test"
    names.add(selector, "TXT", '"v=DKIM1; k=rsa; p=AAAA"')
    found = await check(command, f"127.0.0.1:{names.port}", code=1)
    said = {key: (row["finding"], row["what"]) for key, row in found.items()}
    for key, finding, words in (
        ((HOST, "A"), "fail", "no address"),
        (("mine.test", "MX"), "fail", "names mx.elsewhere.test"),
        (("mine.test", "TXT"), "warn", "lets anybody send"),
        (("_dmarc.mine.test", "TXT"), "fail", "2 of them"),
        (("_mta-sts.mine.test", "TXT"), "warn", "another id"),
        (("_imaps._tcp.mine.test", "SRV"), "warn", "imap.elsewhere.test"),
        (("_submissions._tcp.mine.test", "SRV"), "warn", "missing"),
        ((f"_25._tcp.{HOST}", "TLSA"), "fail", "another key"),
        (("autoconfig.mine.test", "CNAME"), "warn", "leads to 127.0.0.99"),
        (("mta-sts.mine.test", "CNAME"), "warn", "missing"),
        (("_smtp._tls.mine.test", "TXT"), "fail", "SERVFAIL"),
        ((selector, "TXT"), "fail", "another key"),
    ):
        assert said[key][0] == finding, key
        assert words in said[key][1], key
