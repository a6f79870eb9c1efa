"""Seals, verified by our own check and by dkimpy."""

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam.authentication.arc import check_arc
from mailserver.antispam.authentication.content import Content
from mailserver.mime.arc import Sealer, seal
from tests.unit.antispam.test_dkim_verification import public, rsa_key
from tests.zone import Zone

LETTER = (
    b"From: Ann <ann@a.test>\r\nTo: Bob <bob@b.test>\r\nTo: Eve <eve@b.test>\r\n"
    b"Subject: a\r\n\t folded  one\r\nDKIM-Signature: v=1; b=x\r\n\r\nHello  Bob, \r\n\r\n"
)
RESULTS = b"Authentication-Results: %b;\r\n\tspf=pass smtp.mailfrom=a.test;\r\n\tarc=%b\r\n"
ZONE = Zone({("r._domainkey.f.test", "TXT"): [f"v=DKIM1; k=rsa; p={public(rsa_key(2048))}"]})


def sealed(raw: bytes, arc: bytes = b"none", host: str = "mx.f.test") -> bytes:
    found = RESULTS % (host.encode(), arc) + raw
    sealer = Sealer(
        host, "f.test", "r", "rsa-sha256",
        lambda octets: rsa_key(2048).sign(octets, padding.PKCS1v15(), SHA256()),
    )  # fmt: skip
    return seal(found, sealer, 1_700_000_000) + found


SEALED = sealed(sealed(LETTER), b"pass")


async def status(raw: bytes) -> tuple[str, int, int]:
    found = await check_arc(ZONE, Content(raw))
    return found.result, found.instances, found.oldest_pass


async def test_a_chain_grows_and_holds() -> None:
    raw = LETTER
    for number in range(1, 4):
        raw = sealed(raw, b"none" if number == 1 else b"pass", f"mx{number}.f.test")
        assert await status(raw) == ("pass", number, 0)
    found = await check_arc(ZONE, Content(raw))
    assert found.results[0].startswith(b" i=1; mx1.f.test;\r\n\tspf=pass smtp.mailfrom=a.test")

    def lookup(name: bytes, timeout: int = 5) -> bytes:
        return ZONE.records[name.decode().rstrip("."), "TXT"][0].encode()

    assert dkimpy.arc_verify(raw, dnsfunc=lookup)[0] == b"pass"


@pytest.mark.parametrize(
    "change", [(b"Hello", b"Hallo"), (b"To: Bob", b"To: Rob"), (b"i=1", b"i=3")]
)
async def test_a_change_breaks_the_chain(change: tuple[bytes, bytes]) -> None:
    assert (await status(sealed(LETTER).replace(*change)))[0] == "fail"


@given(st.data())
async def test_any_change_of_a_sealed_message_has_a_result(data: st.DataObject) -> None:
    raw = bytearray(SEALED)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=30))
    found = await check_arc(ZONE, Content(bytes(raw)))
    assert found.result in {"none", "pass", "fail"}
    sealed(bytes(raw), b"pass")


async def test_a_change_between_two_seals_is_told() -> None:
    raw = sealed(sealed(LETTER).replace(b"Hello", b"[list] Hello"), b"pass")
    assert await status(raw) == ("pass", 2, 2)


async def test_a_chain_that_was_found_broken_ends() -> None:
    broken = sealed(LETTER).replace(b"i=1", b"i=7")
    once = sealed(broken, b"fail")
    assert b"cv=fail" in once
    assert (await status(once))[0] == "fail"
    assert sealed(once, b"fail").count(b"ARC-Seal") == once.count(b"ARC-Seal")


def test_nothing_is_sealed_when_a_chain_was_not_checked() -> None:
    raw = sealed(LETTER)
    sealer = Sealer("other.test", "f.test", "r", "rsa-sha256", lambda octets: b"")
    assert seal(raw, sealer, 1) == b""
