"""DANE: TLSA records in signed zones decide, and nothing in between can switch them off."""

import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailserver.model import QueueState
from mailserver.tls import make_development_ca, server_context
from tests.integration.outbound.conftest import Sending

HOST = "mx.dane.example"


@dataclass
class Host:
    """A mail server with a certificate of an authority nobody knows."""

    context: ssl.SSLContext
    leaf: x509.Certificate
    authority: x509.Certificate


def key_hash(certificate: x509.Certificate) -> str:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


@pytest.fixture
def host(sending: Sending, tmp_path: Path) -> Host:
    files = make_development_ca(tmp_path / "dane", [HOST], datetime.now(UTC))
    leaf, authority = x509.load_pem_x509_certificates(files.certificate.read_bytes())
    sending.domain("dane.example", (10, HOST, "127.0.0.2"))
    sending.names.secure |= {"dane.example", HOST, f"_{sending.port}._tcp.{HOST}"}
    return Host(server_context(files.certificate, files.key), leaf, authority)


def tlsa(sending: Sending, text: str) -> None:
    sending.names.add(f"_{sending.port}._tcp.{HOST}", "TLSA", text)


@pytest.mark.parametrize("usage", ["3 1 1", "3 0 1", "3 1 2", "2 1 1", "2 0 0", "1 1 1"])
async def test_a_certificate_that_is_named(sending: Sending, host: Host, usage: str) -> None:
    named = host.authority if usage.startswith("2") else host.leaf
    whole = named.public_bytes(Encoding.DER)
    spki = named.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    data = whole if usage.split()[1] == "0" else spki
    matching = {"0": data, "1": hashlib.sha256(data).digest(), "2": hashlib.sha512(data).digest()}
    tlsa(sending, f"{usage} {matching[usage.split()[2]].hex()}")
    peer = await sending.peer(tls=host.context)
    await sending.work()
    await sending.send("b@dane.example")
    await sending.settled("b@dane.example", QueueState.DELIVERED)
    assert peer.received[0].tls


@pytest.mark.parametrize("fault", ["other key", "other authority", "no TLS", "no answer"])
async def test_mail_waits_for_the_right_certificate(
    sending: Sending, host: Host, fault: str
) -> None:
    wrong = hashlib.sha256(b"another").hexdigest()
    tlsa(sending, f"{'2' if fault == 'other authority' else '3'} 1 1 {wrong}")
    if fault == "no TLS":
        tlsa(sending, f"3 1 1 {key_hash(host.leaf)}")
    if fault == "no answer":
        sending.names.failing.add(f"_{sending.port}._tcp.{HOST}")
    peer = await sending.peer(tls=None if fault == "no TLS" else host.context)
    await sending.work()
    await sending.send("b@dane.example")
    row = await sending.settled("b@dane.example", QueueState.WAITING)
    assert row["status"] in ("4.7.5", "4.4.2")
    assert peer.received == []


@pytest.mark.parametrize("unsigned", ["dane.example", HOST])
async def test_records_of_zones_without_signatures_do_not_count(
    sending: Sending, host: Host, unsigned: str
) -> None:
    sending.names.secure.discard(unsigned)
    tlsa(sending, f"3 1 1 {hashlib.sha256(b'another').hexdigest()}")
    sending.names.failing.add(f"_{sending.port}._tcp.{HOST}")  # nobody may even ask
    await sending.peer(tls=host.context)
    await sending.work()
    await sending.send("b@dane.example")
    await sending.settled("b@dane.example", QueueState.DELIVERED)
