"""DANE on a real DNS with signatures: what a validating resolver says of each zone decides."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailserver.config import Config
from mailserver.model import QueueState
from mailserver.tls import DevelopmentFiles, make_development_ca, server_context
from tests.integration.outbound.conftest import Sending
from tests.signed_dns import SignedDns

WRONG = "aa" * 32  # of the key of nobody
FORGED = "bb" * 32  # what somebody on the way makes of it
HOSTS = ["mx.dane.test", "mx.xn--bcher-kva.test"]

ZONE = """
dane                 MX   10 mx.dane
mx.dane              A    127.0.0.2
_{port}._tcp.mx.dane TLSA 3 1 1 {key}

wrong                MX   10 mx.wrong
mx.wrong             A    127.0.0.2
_{port}._tcp.mx.wrong TLSA 3 1 1 {wrong}

authority            MX   10 mx.authority
mx.authority         CNAME mx.xn--bcher-kva
by-alias             MX   10 mx.by-alias
mx.by-alias          CNAME mx.dane
alias-itself         MX   10 mx.alias-itself
mx.alias-itself      CNAME mx.plain
mx.plain             A    127.0.0.2
_{port}._tcp.mx.alias-itself TLSA 3 1 1 {wrong}

forged               MX   10 mx.forged
mx.forged            A    127.0.0.2
_{port}._tcp.mx.forged TLSA 3 1 1 {doubtful}
two-ways             MX   10 mx.forged
two-ways             MX   20 mx.dane
forged-address       MX   10 mx.bogus

unsigned-tlsa        MX   10 mx.unsigned-tlsa
mx.unsigned-tlsa     A    127.0.0.2
_tcp.mx.unsigned-tlsa NS  ns.insecure
unsigned-host        MX   10 mx.unsigned
unsigned             NS   ns.insecure

_{port}._tcp.mx.xn--bcher-kva TLSA 2 1 1 {authority}
"""
UNSIGNED = """
@                    MX   10 mx
mx                   A    127.0.0.2
_{port}._tcp.mx      TLSA 3 1 1 {wrong}
"""


@dataclass
class Key:
    """The certificate of a server, of an authority that nobody knows."""

    files: DevelopmentFiles
    leaf: str
    authority: str


def digest(certificate: x509.Certificate) -> str:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


@pytest.fixture
def key(tmp_path: Path) -> Key:
    files = make_development_ca(tmp_path / "dane", HOSTS, datetime.now(UTC))
    leaf, authority = x509.load_pem_x509_certificates(files.certificate.read_bytes())
    return Key(files, digest(leaf), digest(authority))


@pytest_asyncio.fixture
async def zones(tmp_path: Path, port: int, key: Key) -> AsyncIterator[SignedDns]:
    doubtful = "cc" * 32
    texts = {"port": port, "key": key.leaf, "authority": key.authority, "wrong": WRONG}
    server = SignedDns(
        tmp_path / "dns",
        further=ZONE.format(**texts, doubtful=doubtful),
        forged={doubtful: FORGED},
        unsigned={
            "unsigned.test": UNSIGNED.format(**texts),
            "_tcp.mx.unsigned-tlsa.test": f"_{port} TLSA 3 1 1 {WRONG}\n",
        },
    )
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@pytest.fixture
def config(zones: SignedDns, port: int) -> Config:
    return Config.model_validate(
        {
            "server": {"hostname": "mail.example.test", "secret_key": "of the tests"},
            "dns": {"servers": zones.server, "validating": True},
            "outbound": {"port": port},
        }
    )


@pytest.mark.parametrize(
    "domain",
    [
        "dane.test",  # the key of the server is named
        "xn--bcher-kva.test",  # its authority is, under a name of another script
        "authority.test",  # a name for that
        "by-alias.test",
        "two-ways.test",  # the first host cannot be trusted, the second can
    ],
)
async def test_mail_goes_where_the_zone_names_the_key(
    sending: Sending, key: Key, domain: str
) -> None:
    peer = await sending.peer(tls=server_context(key.files.certificate, key.files.key))
    await sending.work()
    await sending.send(f"b@{domain}")
    await sending.settled(f"b@{domain}", QueueState.DELIVERED)
    assert peer.received[0].tls


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("wrong.test", "4.7.5"),  # another key is named
        ("alias-itself.test", "4.7.5"),  # for the name before the CNAME record
        ("forged.test", "4.4.2"),  # the records of the key were changed on their way
        ("forged-address.test", "4.4.3"),  # that of the address was
        ("bogus.test", "4.4.3"),  # that of the mail server was
    ],
)
async def test_mail_waits_while_a_signed_zone_says_otherwise(
    sending: Sending, key: Key, domain: str, status: str, encrypted: bool
) -> None:
    context = server_context(key.files.certificate, key.files.key) if encrypted else None
    peer = await sending.peer(tls=context)
    await sending.work()
    await sending.send(f"b@{domain}")
    row = await sending.settled(f"b@{domain}", QueueState.WAITING)
    assert row["status"] == (status if encrypted or status != "4.7.5" else "4.4.2")
    assert peer.received == []


@pytest.mark.parametrize(
    "domain",
    [
        "unsigned.test",  # nothing of the zone is signed
        "unsigned-host.test",  # the host is in such a zone
        "unsigned-tlsa.test",  # the records of the key alone are
        "implicit.test",  # there are none, and that is signed
    ],
)
async def test_what_is_not_signed_decides_nothing(sending: Sending, key: Key, domain: str) -> None:
    await sending.peer(tls=server_context(key.files.certificate, key.files.key))
    await sending.work()
    await sending.send(f"b@{domain}")
    await sending.settled(f"b@{domain}", QueueState.DELIVERED)


async def test_a_domain_that_takes_no_mail_and_one_that_is_not_there(sending: Sending) -> None:
    await sending.work()
    await sending.send("b@nomail.test", "b@nowhere.test")
    assert (await sending.settled("b@nomail.test", QueueState.FAILED))["status"] == "5.1.10"
    assert (await sending.settled("b@nowhere.test", QueueState.FAILED))["status"] == "5.1.2"
