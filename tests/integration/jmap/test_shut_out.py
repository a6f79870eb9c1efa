"""What stays open ends when whoever opened it would not get in any more."""

import asyncio
import base64
import json
import time
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.typing import Subprotocol

from mailserver.auth.issuer import Issuer
from mailserver.auth.tokens import Tokens
from mailserver.errors import Unavailable
from mailserver.jmap.server import access
from mailserver.mail import accounts, closing
from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.storage import accounts as stored
from tests import oidc
from tests.integration.jmap.conftest import CORE, PASSWORD, Site

PATIENCE = 30.0  # seconds


class Clock:
    """The time as judges of tokens see it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(issuer: oidc.Issuer, clock: Clock) -> Tokens:
    return Tokens(issuer.config(), Issuer(issuer.config()), clock=clock)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "RECHECK", 0.05)


def basic(account: Account) -> str:
    return "Basic " + base64.b64encode(f"{account.login}:{PASSWORD}".encode()).decode()


class Open:
    """A stream and WebSockets of one client."""

    def __init__(self, site: Site, stack: AsyncExitStack) -> None:
        self._site = site
        self._stack = stack

    async def socket(self, authorization: str, path: str = "/jmap/ws") -> ClientConnection:
        return await self._stack.enter_async_context(
            connect(
                f"ws://{self._site.host}:{self._site.port}{path}",
                additional_headers={"Authorization": authorization} if authorization else {},
                subprotocols=[Subprotocol("jmap")],
                open_timeout=PATIENCE,
            )
        )

    async def ticket(self, account: Account) -> str:
        _, _, body = await asyncio.to_thread(
            self._site.ask, "POST", "/jmap/ws/ticket", b"", login=account.login
        )
        return "/jmap/ws?ticket=" + str(json.loads(body)["value"])

    async def stream(self, authorization: str) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection(self._site.host, self._site.port)
        self._stack.callback(writer.close)
        writer.write(
            "GET /jmap/events?types=*&closeafter=no&ping=0 HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: {authorization}\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b": \n\n"), PATIENCE)
        assert head.startswith(b"HTTP/1.1 200 ")
        return reader


async def ended(socket: ClientConnection) -> int:
    """Wait until the server closes a WebSocket; return why."""
    with pytest.raises(ConnectionClosedError) as error:
        async with asyncio.timeout(PATIENCE):
            await socket.recv()
    assert error.value.rcvd is not None
    return error.value.rcvd.code


async def refused(client: Open, *how: str) -> int:
    """Try to open a WebSocket; return the status of the refusal."""
    with pytest.raises(InvalidStatus) as error:
        await client.socket(*how)
    return error.value.response.status_code


async def lives(socket: ClientConnection) -> None:
    """Ask something and hear the answer."""
    echo = {"@type": "Request", "using": [CORE], "methodCalls": [["Core/echo", {}, "c"]]}
    await socket.send(json.dumps(echo))
    async with asyncio.timeout(PATIENCE):
        assert json.loads(await socket.recv())["@type"] == "Response"


@pytest.mark.parametrize("how", ["password", "disabled"])
async def test_a_changed_password_and_a_disabled_account_end_what_is_open(
    site: Site, mail: Mail, alice: Account, bob: Account, how: str
) -> None:
    async with AsyncExitStack() as stack:
        client = Open(site, stack)
        sockets = [
            await client.socket(basic(alice)),
            await client.socket("", await client.ticket(alice)),
        ]
        stream = await client.stream(basic(alice))
        other = await client.socket(basic(bob))
        unused = await client.ticket(alice)
        for socket in sockets:
            await lives(socket)
        if how == "password":
            await accounts.set_password(mail, alice.login, "battery staple")
        else:
            await mail.database.execute(
                "UPDATE account SET enabled = false WHERE id = $1", alice.id
            )
        assert [await ended(socket) for socket in sockets] == [1008, 1008]
        await asyncio.wait_for(stream.readuntil(b"0\r\n\r\n"), PATIENCE)
        await lives(other)
        assert await refused(client, "", unused) == 401


@pytest.mark.parametrize("how", ["password", "disabled", "deleted"])
async def test_what_is_open_ends_at_once(
    site: Site, mail: Mail, alice: Account, bob: Account, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "RECHECK", 3600)
    async with AsyncExitStack() as stack:
        client = Open(site, stack)
        socket = await client.socket(basic(alice))
        stream = await client.stream(basic(alice))
        other = await client.socket(basic(bob))
        await lives(socket)
        if how == "password":
            await accounts.set_password(mail, alice.login, "battery staple")
        elif how == "disabled":
            await closing.disable(mail, alice.login, refuse_mail=False)
        else:
            await closing.delete(mail, alice.login, timedelta(days=1))
        assert await ended(socket) == 1008
        await asyncio.wait_for(stream.readuntil(b"0\r\n\r\n"), PATIENCE)
        await lives(other)


async def test_an_expired_token_ends_what_is_open(
    site: Site, alice: Account, issuer: oidc.Issuer, clock: Clock
) -> None:
    async with AsyncExitStack() as stack:
        client = Open(site, stack)
        bearer = f"Bearer {issuer.token()}"
        socket, stream = await client.socket(bearer), await client.stream(bearer)
        by_password = await client.socket(basic(alice))
        await lives(socket)
        clock.ahead = 10 * 86_400.0
        assert await ended(socket) == 1008
        await asyncio.wait_for(stream.readuntil(b"0\r\n\r\n"), PATIENCE)
        await lives(by_password)


async def test_a_store_that_does_not_answer_ends_nothing(
    site: Site, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def fails(*_: object) -> None:
        asked.set()
        raise Unavailable("no database")

    async with AsyncExitStack() as stack:
        client = Open(site, stack)
        socket = await client.socket(basic(alice))
        with monkeypatch.context() as patched:
            patched.setattr(stored, "credentials", fails)
            for _ in range(3):
                asked.clear()
                await asyncio.wait_for(asked.wait(), PATIENCE)
        await lives(socket)


async def test_a_password_that_changes_while_one_comes_in_is_noticed(
    site: Site, mail: Mail, alice: Account
) -> None:
    assert (await site.get("/jmap/api", login=alice.login))[0] == 200  # is remembered for a second
    await accounts.set_password(mail, alice.login, "battery staple")
    async with AsyncExitStack() as stack:
        assert await refused(Open(site, stack), basic(alice)) == 401
