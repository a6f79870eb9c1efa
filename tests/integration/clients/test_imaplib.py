"""Python's imaplib over TLS and STARTTLS."""

import asyncio
import imaplib
import ssl

import pytest

from mailserver.model import Account
from tests.integration.clients.account import LOGIN, PASSWORD
from tests.integration.clients.conftest import Served
from tests.integration.conftest import Tls

MESSAGE = b"Subject: appended\r\nFrom: alice@example.test\r\n\r\nline 1\r\n.\r\nline 3\r\n"


def _work(client: imaplib.IMAP4) -> None:
    assert client.login(LOGIN, PASSWORD)[0] == "OK"
    kind, listed = client.list()
    assert kind == "OK"
    assert b'(\\HasNoChildren \\Sent) "/" Sent' in listed
    assert client.create('"a b"')[0] == "OK"
    assert client.append('"a b"', "(\\Flagged)", imaplib.Time2Internaldate(0), MESSAGE)[0] == "OK"
    assert client.select('"a b"') == ("OK", [b"1"])
    assert client.search(None, "FLAGGED", "SUBJECT", "APPENDED") == ("OK", [b"1"])
    kind, data = client.fetch("1", "(UID INTERNALDATE BODY[] FLAGS)")
    assert kind == "OK"
    assert isinstance(data[0], tuple)
    assert data[0][1] == MESSAGE
    assert client.copy("1", "Archive")[0] == "OK"
    assert client.store("1", "+FLAGS", "\\Deleted")[0] == "OK"
    assert client.expunge() == ("OK", [b"1"])
    assert client.close()[0] == "OK"
    assert client.delete('"a b"')[0] == "OK"
    assert client.status("Archive", "(MESSAGES UNSEEN)") == (
        "OK",
        [b"Archive (MESSAGES 1 UNSEEN 0)"],
    )
    assert client.logout()[0] == "BYE"


async def test_imaplib_over_tls(server: Served, tls: Tls, alice: Account) -> None:

    def run() -> None:
        _work(imaplib.IMAP4_SSL("localhost", server.imaps, ssl_context=tls.client, timeout=60))

    await asyncio.to_thread(run)


async def test_imaplib_over_starttls(server: Served, tls: Tls, alice: Account) -> None:

    def run() -> None:
        client = imaplib.IMAP4("localhost", server.imap, timeout=60)
        assert client.starttls(tls.client)[0] == "OK"
        _work(client)

    await asyncio.to_thread(run)


async def test_the_certificate_is_checked(server: Served, alice: Account) -> None:

    def run() -> None:
        imaplib.IMAP4_SSL(
            "localhost", server.imaps, ssl_context=ssl.create_default_context(), timeout=60
        )

    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(run)
