"""What SPF, DKIM and DMARC of one message cost, with DNS at once: CPU time of this process.

The message is signed twice by its domain (RSA-2048 and Ed25519), its SPF record includes three
others, and the last of them lets the client in.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from mailserver.address import Address
from mailserver.antispam.authentication import (
    Rules,
    authenticate,
    authentication_results,
    received_spf,
    without_forged,
)
from mailserver.antispam.evidence import Client, Inquiry
from mailserver.mime import dkim
from tests.zone import Zone

SIZES = {"5 kB": 5_000, "50 kB": 50_000, "1 MB": 1_000_000}
LINE = b"Here is a line of text that a person  might have written to another one.\r\n"
HEADER = (
    b"Received: from a (a [192.0.2.7]) by b; Mon, 1 Jan 2026 00:00:00 +0000\r\n"
    b"From: Ann <ann@mail.example.org>\r\nTo: Bob <bob@example.test>\r\nSubject: hello\r\n"
    b"Date: Mon, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@mail.example.org>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"List-Unsubscribe: <https://example.org/u>\r\nReply-To: ann@mail.example.org\r\n"
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = 2.0  # of CPU that each size is measured
RULES = Rules("mx.example.test")


def run(quick: bool) -> object:
    return asyncio.run(_run(SECONDS / 4 if quick else SECONDS))


async def _run(seconds: float) -> object:
    keys = Keys()
    zone = keys.zone()
    zone.is_warm = True
    results: dict[str, object] = {}
    for name, size in SIZES.items():
        raw = keys.signed(HEADER + b"\r\n" + LINE * (size // len(LINE)))
        results[name] = await _measured(zone, raw, seconds)
    return {"cpu_ms_per_message": results}


async def _measured(zone: Zone, raw: bytes, seconds: float) -> dict[str, float]:
    inquiry = Inquiry(
        "s", Client("192.0.2.7", "mx.example.org"), Address("ann", "mail.example.org"), (), raw, NOW
    )
    done = await authenticate(zone, inquiry, RULES, time.perf_counter)
    assert (done.mail_from.result, done.dkim, done.dmarc.result) == ("pass", "pass", "pass")
    return {
        "all": await _cpu(seconds, zone, inquiry),
        "header fields": _header_cpu(seconds / 4, done, inquiry),
    }


async def _cpu(seconds: float, zone: Zone, inquiry: Inquiry) -> float:
    began, count = time.process_time(), 0
    while time.process_time() - began < seconds:
        zone.asked.clear()
        await authenticate(zone, inquiry, RULES, time.perf_counter)
        count += 1
    return round((time.process_time() - began) / count * 1000, 3)


def _header_cpu(seconds: float, done: object, inquiry: Inquiry) -> float:
    from mailserver.antispam.authentication import Authentication

    assert isinstance(done, Authentication)
    began, count = time.process_time(), 0
    while time.process_time() - began < seconds:
        authentication_results(done, RULES.authserv_id)
        received_spf(done, inquiry, RULES.authserv_id)
        without_forged(inquiry.raw, [RULES.authserv_id])
        count += 1
    return round((time.process_time() - began) / count * 1000, 3)


class Keys:
    """A domain with a key of each kind, and its records."""

    def __init__(self) -> None:
        self._rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._ed25519 = ed25519.Ed25519PrivateKey.generate()

    def zone(self) -> Zone:
        """Return the records."""
        octets = self._rsa.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        public = base64.b64encode(octets).decode()
        edwards = base64.b64encode(self._ed25519.public_key().public_bytes_raw()).decode()
        name = "_domainkey.example.org"
        texts: Sequence[tuple[str, str]] = [
            ("mail.example.org", "v=spf1 include:a.test include:b.test include:c.test -all"),
            ("a.test", "v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.0/24 ~all"),
            ("b.test", "v=spf1 ip4:198.51.100.0/24 ip6:2001:db8::/32 ~all"),
            ("c.test", "v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/24 ~all"),
            (f"r.{name}", dkim.record("rsa-sha256", public)),
            (f"e.{name}", dkim.record("ed25519-sha256", edwards)),
            ("_dmarc.example.org", "v=DMARC1; p=reject; rua=mailto:dmarc@example.org"),
        ]
        zone = Zone({(name, "TXT"): [text] for name, text in texts})
        zone.add("7.2.0.192.in-addr.arpa", "PTR", "mx.example.org.")
        zone.add("mx.example.org", "A", "192.0.2.7")
        return zone

    def signed(self, raw: bytes) -> bytes:
        """Return a message with both signatures."""
        draft = dkim.draft(raw)
        fields = b""
        for selector, algorithm in (("r", "rsa-sha256"), ("e", "ed25519-sha256")):
            value = dkim.to_sign(draft, "example.org", selector, algorithm, int(NOW.timestamp()))
            octets = dkim.signed_octets(draft, value)
            if algorithm == "rsa-sha256":
                signature = self._rsa.sign(octets, padding.PKCS1v15(), SHA256())
            else:
                signature = self._ed25519.sign(hashlib.sha256(octets).digest())
            fields += dkim.field(value, signature)
        return fields + raw


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="shorter and less exact")
    print(json.dumps(run(arguments.parse_args().quick), indent=2))


if __name__ == "__main__":
    main()
