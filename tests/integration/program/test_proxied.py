"""The whole server behind proxies: each protocol sees the client that they name."""

import base64
import http.client
import imaplib
import json
import re
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.integration.program.conftest import Program, Start, start_dev

HEADER = b"PROXY TCP4 192.0.2.%d 198.51.100.2 56324 993\r\n"
BINARY = b"\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24"  # version 2, TCP over IPv6
BINARY += 2 * bytes.fromhex("20010db8" + 10 * "00" + "0007") + b"\xdc\x04\x03\xe1"


@pytest.fixture(scope="module")
def program(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    listeners = ("IMAP", "IMAPS", "HTTPS")
    program, _ = start_dev(
        start,
        tmp_path_factory.mktemp("proxied") / "data",
        **{f"MAILSERVER_LISTENERS__{name}__PROXY_NETWORKS": "127.0.0.0/8" for name in listeners},
        MAILSERVER_HTTP__FORWARDED_NETWORKS="127.0.0.1 10.0.0.0/8",
        MAILSERVER_LOG__FORMAT="text",
    )
    yield program
    assert program.stop() == 0


def connect(program: Program, listener: str, header: bytes, *, tls: bool) -> socket.socket:
    """Connect as a proxy does."""
    host, port = program.document["listeners"][listener]
    connection = socket.create_connection((host, port), timeout=60)
    connection.sendall(header)
    if not tls:
        return connection
    context = ssl.create_default_context(cafile=program.document["ca"])
    return context.wrap_socket(connection, server_hostname="localhost")


def failures(program: Program) -> list[str]:
    """Return who failed to log in, as the log says."""
    return re.findall(r"login failed .*peer=(\S+)", program.errors.read_text())


class Client(imaplib.IMAP4):
    """An IMAP client on a connection that there is already."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        super().__init__("localhost")

    def _create_socket(self, timeout: float | None = None) -> socket.socket:
        return self._connection


@pytest.mark.parametrize(
    ("listener", "header", "peer"),
    [
        ("imaps", HEADER % 1, "192.0.2.1"),
        ("imaps", BINARY, "2001:db8::7"),
        ("imap", HEADER % 2, "192.0.2.2"),
    ],
)
def test_imap(program: Program, listener: str, header: bytes, peer: str) -> None:
    client = Client(connect(program, listener, header, tls=listener == "imaps"))
    if listener == "imap":
        client.starttls(ssl.create_default_context(cafile=program.document["ca"]))
    with pytest.raises(imaplib.IMAP4.error):
        client.login("alice@example.test", "wrong")
    assert failures(program)[-1] == peer
    account = program.document["accounts"][0]
    client.login(account["login"], account["password"])
    assert client.select("INBOX")[0] == "OK"
    client.logout()


def ask(connection: socket.socket, *fields: str) -> http.client.HTTPResponse:
    """Ask for the session with a wrong password."""
    login = base64.b64encode(b"alice@example.test:wrong").decode()
    head = ["GET /.well-known/jmap HTTP/1.1", "Host: mail.example.org"]
    head.append(f"Authorization: Basic {login}")
    connection.sendall("\r\n".join([*head, *fields, "Connection: close", "", ""]).encode())
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer


def test_https(program: Program) -> None:
    with connect(program, "https", HEADER % 3, tls=True) as connection:
        assert ask(connection).status == 401
    assert failures(program)[-1] == "192.0.2.3"


def test_https_of_who_is_no_proxy_by_its_header_but_by_its_field(program: Program) -> None:
    with connect(program, "https", HEADER % 4, tls=True) as connection:
        assert ask(connection, "X-Forwarded-For: 203.0.113.9").status == 401
    assert failures(program)[-1] == "192.0.2.4"


def test_http(program: Program) -> None:
    with connect(program, "http", b"", tls=False) as connection:
        assert ask(connection, "X-Forwarded-For: 203.0.113.9, 192.0.2.5, 10.1.1.1").status == 401
    assert failures(program)[-1] == "192.0.2.5"


def test_urls_are_those_of_the_proxy(program: Program) -> None:
    account = program.document["accounts"][0]
    login = base64.b64encode(f"{account['login']}:{account['password']}".encode()).decode()
    host, port = program.document["listeners"]["http"]
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.request(
        "GET", "/.well-known/jmap",
        headers={
            "Host": "mail.example.org",
            "Authorization": f"Basic {login}",
            "X-Forwarded-For": "192.0.2.6",
            "X-Forwarded-Proto": "https",
        },
    )  # fmt: skip
    answer = connection.getresponse()
    assert answer.status == 200
    assert json.loads(answer.read())["apiUrl"].startswith("https://mail.example.org/")
    connection.close()
