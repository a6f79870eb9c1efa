"""What leaves is signed with the keys of the author's domain, as others verify it."""

import asyncio
import base64
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import dkim as verifier
import pytest

from mailserver.mail import dkim
from mailserver.mail.dkim import KeyRow, Signatures
from mailserver.mime.dkim import record
from mailserver.model import QueueState
from tests.integration.outbound.conftest import LETTER, Sending

ODD = (
    b"From:  Alice\t<alice@example.test> \r\nSubject: a\r\n\t folded  line \r\n"
    b"To: x@example.org\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n"
    b"gr\xc3\xbcn  und \t blau \r\n\r\n.dot\r\n\r\n\r\n"
)


def verified(raw: bytes, keys: list[KeyRow]) -> list[bool]:
    """Verify every signature by another implementation."""
    zone = {f"{k.selector}._domainkey.{k.domain}.": record(k.algorithm, k.public) for k in keys}

    def lookup(name: bytes, timeout: int = 5) -> bytes | None:
        text = zone.get(name.decode())
        return None if text is None else text.encode()

    message = verifier.DKIM(raw)
    count = raw.count(b"DKIM-Signature:")
    return [message.verify(idx=index, dnsfunc=lookup) for index in range(count)]


@pytest.mark.parametrize("raw", [LETTER, ODD])
async def test_others_verify_both_signatures(sending: Sending, raw: bytes) -> None:
    peer = await sending.peer()
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    keys = await dkim.make_all(sending.mail, "example.test")
    await sending.work()
    await sending.send("carol@example.org", raw=raw)
    await sending.settled("carol@example.org", QueueState.DELIVERED)
    content = peer.received[0].content
    assert content.endswith(raw)
    assert verified(content, keys) == [True, True]
    assert verified(content.replace(b"To: ", b"To: z@example.org, "), keys) == [False, False]
    assert verified(b"Subject: forged\r\n" + content, keys) == [False, False]


@pytest.mark.parametrize("algorithm", dkim.ALGORITHMS)
async def test_opendkim_verifies_each_signature(
    sending: Sending, tmp_path: Path, algorithm: str
) -> None:
    program = shutil.which("opendkim", path="/usr/sbin:/usr/bin")
    assert program is not None, "tests/clients.sh installs opendkim"
    made = await dkim.make_all(sending.mail, "example.test")
    for key in made:  # it names one signature of a message only: each is alone
        if key.algorithm != algorithm:
            await dkim.remove(sending.mail, "example.test", key.selector)
    (key,) = await dkim.keys(sending.mail, "example.test")
    settings, keys, letter = (tmp_path / name for name in ("settings", "keys", "letter"))
    settings.write_text(f"Mode v\nTestPublicKeys {keys}\n")
    keys.write_text(f"{key.selector}._domainkey.example.test {record(key.algorithm, key.public)}\n")

    def said(raw: bytes) -> str:
        letter.write_bytes(raw)
        command = [program, "-x", str(settings), "-t", str(letter), "-vv"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        return done.stdout + done.stderr

    for raw in (LETTER, ODD):
        signed = await Signatures(sending.mail).sign(raw)
        assert signed.count(b"DKIM-Signature:") == 1
        found = await asyncio.to_thread(said, signed)
        assert "verification (s=" in found, found
        assert "succeeded" in found, found
        found = await asyncio.to_thread(said, signed.replace(b"To: ", b"To: z@example.org, "))
        assert "succeeded" not in found, found


async def test_a_server_of_seven_bits_gets_seven_and_signed(sending: Sending) -> None:
    peer = await sending.peer(extensions=("PIPELINING",))
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    keys = await dkim.make_all(sending.mail, "example.test")
    await sending.work()
    await sending.send("carol@example.org", raw=ODD)
    await sending.send("dave@example.org", raw="Subject: grün\r\n\r\n".encode())
    await sending.settled("carol@example.org", QueueState.DELIVERED)
    content = peer.received[0].content
    assert content.isascii()
    assert b"\r\nContent-Transfer-Encoding: quoted-printable\r\n" in content
    assert verified(content, keys) == [True, True]
    row = await sending.settled("dave@example.org", QueueState.FAILED)
    assert row["status"] == "5.6.3"


async def test_new_keys_take_over_in_time(sending: Sending) -> None:
    mail = sending.mail
    old = await dkim.make_all(mail, "example.test")
    new = await dkim.rotate(mail, "example.test", timedelta(days=2))
    assert len({key.selector for key in old + new}) == 4
    before = await Signatures(mail).sign(LETTER)
    assert verified(before, old) == [True, True]
    await mail.database.execute(
        "UPDATE dkim_key SET signs_from = signs_from - interval '3 days',"
        " signs_until = signs_until - interval '3 days'"
    )
    after = await Signatures(mail).sign(LETTER)
    assert verified(after, new) == [True, True]


async def test_mail_of_others_is_not_signed(sending: Sending) -> None:
    signatures = Signatures(sending.mail)
    await dkim.make_all(sending.mail, "example.test")
    for author in (b"x@example.org", b"a@example.test, x@example.org", b"nobody"):
        raw = b"From: " + author + b"\r\n\r\nx\r\n"
        assert await signatures.sign(raw) == raw


BINARY = bytes(range(256)) + b"\n.\n"
MIXED = (
    b"From: alice@example.test\r\nSubject: binary\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    + BINARY
    + b"\r\n--b--\r\n"
)


async def test_nul_and_lone_line_ends_never_leave(sending: Sending) -> None:
    peer = await sending.peer("127.0.0.2")
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send("b@example.org", raw=MIXED)
    await peer.wait_for(1)
    content = peer.received[0].content
    encoded = content.partition(b"Content-Transfer-Encoding: base64\r\n\r\n")[2].partition(b"--b")[
        0
    ]
    assert base64.b64decode(encoded) == BINARY
    assert b"\0" not in content
    assert content.count(b"\n") == content.count(b"\r") == content.count(b"\r\n")
    signed = MIXED.replace(b"multipart/mixed", b"multipart/signed")
    await sending.send("c@example.org", raw=signed)
    row = await sending.settled("c@example.org", QueueState.FAILED)
    assert row["status"] == "5.6.3"
    assert len(peer.received) == 1
