"""6,046 real mails in by SMTP, out by IMAP and by JMAP, byte for byte."""

import asyncio
import base64
import contextlib
import http.client
import imaplib
import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.corpus import COUNT, load
from tests.running import RunningServer

pytestmark = pytest.mark.corpus

CACHE = Path(__file__).parents[2] / ".corpus"
LOGIN = "alice@example.test"
CONNECTIONS = 16
TRACE = re.compile(rb"\AReturn-Path: [^\r]*\r\nReceived: [^\r]*\r\n(?:[ \t][^\r]*\r\n)*")
LINE_END = re.compile(rb"\r\n|\r|\n")


@pytest.fixture(scope="module")
def corpus() -> list[tuple[str, bytes]]:
    """Every mail with the line ends that a sending server must give it (RFC 5321 §2.3.8)."""
    return [(name, LINE_END.sub(b"\r\n", raw)) for name, raw in load(CACHE)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    # a third of it is spam, which would be refused: here it is octets that count
    unchecked = {"MAILSERVER_ANTISPAM__ENABLED": "false"}
    running = RunningServer(tmp_path_factory.mktemp("corpus") / "data", unchecked)
    running.start()
    yield running
    running.close()


async def deliver(server: RunningServer, mails: list[tuple[str, bytes]]) -> None:
    """Send mails over one connection; the envelope sender carries the name of the mail."""
    reader, writer = await asyncio.open_connection(*server.address("smtp"))

    async def expect(code: bytes) -> None:
        while True:
            line = await reader.readuntil(b"\r\n")
            assert line.startswith(code), line
            if line[3:4] == b" ":
                return

    await expect(b"220")
    writer.write(b"EHLO corpus.example.org\r\n")
    await expect(b"250")
    for name, raw in mails:
        writer.write(
            f"MAIL FROM:<{name}@example.org> SIZE={len(raw)} BODY=8BITMIME\r\n"
            f"RCPT TO:<{LOGIN}>\r\nDATA\r\n".encode()
        )
        for code in (b"250", b"250", b"354"):
            await expect(code)
        end = b"" if raw.endswith(b"\r\n") else b"\r\n"
        writer.write(re.sub(rb"(?m)^\.", b"..", raw) + end + b".\r\n")
        await expect(b"250")
    writer.write(b"QUIT\r\n")
    await expect(b"221")
    writer.close()
    await writer.wait_closed()


def name_and_content(stored: bytes) -> tuple[str, bytes]:
    """Take the trace headers off a stored message; return the mail's name and the rest."""
    trace = TRACE.match(stored)
    assert trace is not None, stored[:200]
    sender = re.search(rb"\AReturn-Path: <(.+)@example\.org>", stored)
    assert sender is not None
    return sender[1].decode(), stored[trace.end() :]


def by_imap(server: RunningServer) -> dict[str, tuple[int, int, bytes]]:
    """Read the whole INBOX: name -> (UID, RFC822.SIZE, content)."""
    host, port = server.address("imaps")
    context = ssl.create_default_context(cafile=server.info["ca"])
    found: dict[str, tuple[int, int, bytes]] = {}
    with imaplib.IMAP4_SSL(host, port, ssl_context=context) as client:
        client.login(LOGIN, server.password(LOGIN))
        status, (count,) = client.select("INBOX", readonly=True)
        assert (status, count) == ("OK", str(COUNT).encode())
        for first in range(1, COUNT + 1, 200):
            status, answer = client.fetch(
                f"{first}:{min(first + 199, COUNT)}",
                "(UID RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])",
            )
            assert status == "OK"
            for uid, size, stored in fetched(answer):
                assert len(stored) == size
                name, content = name_and_content(stored)
                found[name] = uid, size, content
    return found


def fetched(answer: list[Any]) -> Iterator[tuple[int, int, bytes]]:
    """Give (UID, size, message) of each FETCH response.

    imaplib breaks a response at every literal; an ENVELOPE may have some, and the body is the one
    that follows `BODY[] `.
    """
    text, body = b"", b""
    for item in answer:
        if isinstance(item, tuple):
            text += item[0]
            if item[0].endswith(b"}") and b"BODY[] {" in item[0]:
                body = item[1]
        else:
            text += item
            if item.endswith(b")") and body:
                uid = re.search(rb"\bUID (\d+)", text)
                size = re.search(rb"\bRFC822\.SIZE (\d+)", text)
                assert uid is not None
                assert size is not None
                yield int(uid[1]), int(size[1]), body
                text, body = b"", b""


class Jmap:
    """A minimal client on one connection."""

    def __init__(self, server: RunningServer) -> None:
        host, port = server.address("http")
        self.connection = http.client.HTTPConnection(host, port, timeout=60)
        secret = f"{LOGIN}:{server.password(LOGIN)}".encode()
        self.headers = {"Authorization": "Basic " + base64.b64encode(secret).decode()}
        self.session = json.loads(self.get("/.well-known/jmap"))
        self.account = str(self.session["primaryAccounts"]["urn:ietf:params:jmap:mail"])

    def close(self) -> None:
        self.connection.close()

    def get(self, path: str) -> bytes:
        self.connection.request("GET", path, headers=self.headers)
        response = self.connection.getresponse()
        body = response.read()
        assert response.status == 200, (response.status, body[:200])
        return body

    def call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        request = {
            "using": ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"],
            "methodCalls": [[method, {"accountId": self.account, **arguments}, "0"]],
        }
        url = self.session["apiUrl"].partition("://")[2].partition("/")[2]
        self.connection.request(
            "POST",
            "/" + url,
            json.dumps(request),
            {**self.headers, "Content-Type": "application/json"},
        )
        response = json.loads(self.connection.getresponse().read())
        name, result, _ = response["methodResponses"][0]
        assert name == method, result
        answer: dict[str, Any] = result
        return answer


def by_jmap(server: RunningServer) -> dict[str, tuple[int, bytes]]:
    """Read every email of the account: name -> (size, content)."""
    with contextlib.closing(Jmap(server)) as client:
        return read_emails(client)


def read_emails(client: Jmap) -> dict[str, tuple[int, bytes]]:
    template = client.session["downloadUrl"].partition("://")[2].partition("/")[2]
    found: dict[str, tuple[int, bytes]] = {}
    position = 0
    while True:
        query = client.call("Email/query", {"position": position, "limit": 500})
        if not query["ids"]:
            return found
        position += len(query["ids"])
        properties = ["id", "blobId", "size", "subject", "from", "preview", "hasAttachment"]
        answer = client.call("Email/get", {"ids": query["ids"], "properties": properties})
        assert answer["notFound"] == []
        for email in answer["list"]:
            path = (
                template.replace("{accountId}", client.account)
                .replace("{blobId}", email["blobId"])
                .replace("{type}", "message%2Frfc822")
                .replace("{name}", "mail.eml")
            )
            stored = client.get("/" + path)
            assert len(stored) == email["size"]
            name, content = name_and_content(stored)
            found[name] = email["size"], content


async def test_every_mail_comes_back_as_it_was_sent(
    server: RunningServer, corpus: list[tuple[str, bytes]]
) -> None:
    names = {f"m{number}": raw for number, (_, raw) in enumerate(corpus)}
    mails = list(names.items())
    await asyncio.gather(
        *(deliver(server, mails[number::CONNECTIONS]) for number in range(CONNECTIONS))
    )
    imap = await asyncio.to_thread(by_imap, server)
    assert sorted(uid for uid, _, _ in imap.values()) == list(range(1, COUNT + 1))
    assert imap.keys() == names.keys()
    jmap = await asyncio.to_thread(by_jmap, server)
    assert jmap.keys() == names.keys()
    for name, raw in mails:
        sent = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
        _, size, content = imap[name]
        assert content == sent, name
        assert jmap[name] == (size, sent), name
    assert await asyncio.to_thread(server.fsck) == []
