"""Messages that are authenticated by a real DNS with a signed zone."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from mailserver.address import parse_address
from mailserver.antispam.authentication import Authentication, Rules, authenticate
from mailserver.antispam.evidence import Client, Inquiry
from mailserver.antispam.verdict import Action
from mailserver.config import Dns
from mailserver.dns import Resolver
from mailserver.mime import dkim
from tests.signed_dns import SignedDns

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LETTER = b"From: Ann <ann@%b>\r\nTo: bob@mail.test\r\nSubject: x\r\n\r\nHello\r\n"


def signed(dns: SignedDns, raw: bytes, selectors: Sequence[str]) -> bytes:
    """Return a message with a signature of example.test by each selector."""
    draft = dkim.draft(raw)
    fields = []
    for selector in selectors:
        algorithm = "ed25519-sha256" if selector == "ed25519" else "rsa-sha256"
        value = dkim.to_sign(draft, "example.test", selector, algorithm, int(NOW.timestamp()))
        octets = dkim.signed_octets(draft, value)
        if selector == "ed25519":
            signature = dns.ed25519_key.sign(hashlib.sha256(octets).digest())
        else:
            signature = dns.rsa_key.sign(octets, padding.PKCS1v15(), SHA256())
        fields.append(dkim.field(value, signature))
    return b"".join(fields) + raw


async def check(dns: SignedDns, raw: bytes, ip: str, sender: str, helo: str) -> Authentication:
    resolver = Resolver(Dns(servers=dns.server, validating=True), time.monotonic)
    address = parse_address(sender) if sender else None
    inquiry = Inquiry("s", Client(ip, helo), address, (), raw, NOW)
    return await authenticate(resolver, inquiry, Rules("mail.test"), time.monotonic)


async def test_a_message_of_a_domain_that_has_everything(signed_dns: SignedDns) -> None:
    raw = signed(signed_dns, LETTER % b"example.test", ["rsa", "ed25519", "revoked", "none"])
    done = await check(signed_dns, raw, "127.0.0.3", "ann@example.test", "mx2.example.test")
    assert (done.iprev.result, done.iprev.name) == ("pass", "mx2.example.test")
    assert done.helo.result == "none"
    assert (done.mail_from.result, done.mail_from.mechanism) == ("pass", "mx")
    assert [(each.result, each.reason) for each in done.signatures] == [
        ("pass", ""),
        ("pass", ""),
        ("policy", "the key was revoked"),
        ("permerror", "there is no key in DNS"),
    ]
    assert (done.dmarc.result, done.dmarc.policy) == ("pass", "reject")
    assert done.dmarc.aligned == ("spf", "dkim")


@pytest.mark.parametrize(
    ("author", "result", "policy", "action"),
    [
        ("example.test", "fail", "reject", Action.REJECT),
        ("sub.example.test", "fail", "reject", Action.REJECT),
        ("quarantine.test", "fail", "quarantine", Action.JUNK),
        ("gone.quarantine.test", "fail", "reject", Action.REJECT),  # np
        ("testing.test", "fail", "reject", Action.JUNK),  # t=y
        ("nowhere.test", "fail", "none", Action.ACCEPT),  # psd=y at the top
        ("insecure.test", "fail", "none", Action.ACCEPT),
        ("bogus.test", "temperror", "", Action.DEFER),
    ],
)
async def test_what_domains_ask_for(
    signed_dns: SignedDns, author: str, result: str, policy: str, action: Action
) -> None:
    raw = LETTER % author.encode()
    done = await check(signed_dns, raw, "127.0.0.66", "x@nomail.test", "liar.example.test")
    assert (done.dmarc.result, done.dmarc.policy, done.dmarc.action) == (result, policy, action)


@pytest.mark.parametrize(
    ("ip", "sender", "result"),
    [
        ("127.0.0.4", "a@example.test", "pass"),  # by include
        ("127.0.0.5", "a@example.test", "fail"),
        ("127.0.0.5", "a@softfail.test", "softfail"),
        ("127.0.0.5", "a@twice.test", "permerror"),
        ("127.0.0.5", "a@circle.test", "permerror"),
        ("127.0.0.5", "a@bogus.test", "temperror"),
        ("127.0.0.5", "a@include-bogus.test", "temperror"),
        ("127.0.0.2", "a@alias.test", "pass"),  # the record is found by a CNAME
        ("127.0.0.2", "a@loop1.test", "temperror"),
        ("127.0.0.2", "a@long.test", "none"),  # an answer that comes by TCP
        ("127.0.0.2", "a@insecure.test", "pass"),
        ("::1", "a@example.test", "fail"),
    ],
)
async def test_spf(signed_dns: SignedDns, ip: str, sender: str, result: str) -> None:
    done = await check(signed_dns, LETTER % b"example.test", ip, sender, "mx1.example.test")
    assert done.mail_from.result == result


@pytest.mark.parametrize(
    ("ip", "result"),
    [("127.0.0.2", "pass"), ("127.0.0.4", "fail"), ("127.0.0.9", "permerror")],
)
async def test_iprev(signed_dns: SignedDns, ip: str, result: str) -> None:
    done = await check(signed_dns, LETTER % b"example.test", ip, "", "mx1.example.test")
    assert done.iprev.result == result


async def test_a_dns_that_never_answers_costs_its_time_and_no_more(signed_dns: SignedDns) -> None:
    loop = asyncio.get_running_loop()
    silent, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    port = silent.get_extra_info("sockname")[1]
    resolver = Resolver(Dns(servers=f"127.0.0.1:{port}", timeout=60), time.monotonic)
    raw = signed(signed_dns, LETTER % b"example.test", ["rsa", "ed25519"])
    sender = parse_address("ann@example.test")
    inquiry = Inquiry("s", Client("127.0.0.3", "mx2.example.test"), sender, (), raw, NOW)
    async with asyncio.timeout(30):
        done = await authenticate(
            resolver, inquiry, Rules("mail.test", seconds=0.2), time.monotonic
        )
    silent.close()
    assert {finding.check: finding.result for finding in done.findings} == {
        "iprev": "temperror",
        "spf_helo": "temperror",
        "spf": "temperror",
        "dkim": "temperror",
        "arc": "none",
        "dmarc": "temperror",
    }
    assert done.dmarc.action is Action.DEFER
