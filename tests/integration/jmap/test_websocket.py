"""JMAP over WebSocket (RFC 8887), driven by the client of the `websockets` library."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from mailserver.auth.credentials import Hold
from mailserver.jmap.protocol.ids import account_text
from mailserver.jmap.server.api import Api
from mailserver.jmap.server.replies import Message
from mailserver.jmap.server.websocket import WebSockets
from mailserver.jmap.session import Origin
from mailserver.mail import delivery, mailboxes, rights
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import Account, Principal, RightsChange
from tests.integration.jmap.conftest import CORE, MAIL, PASSWORD, URN, Site

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RAW = b"From: Carol <carol@example.org>\r\nSubject: Hello\r\n\r\nHow are you?\r\n"
JMAP = Subprotocol("jmap")

Open = Callable[..., AbstractAsyncContextManager[ClientConnection]]


def basic(login: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{login}:{PASSWORD}".encode()).decode()}


@pytest.fixture
def opened(site: Site, alice: Account) -> Open:
    @asynccontextmanager
    async def open_socket(
        path: str = "/jmap/ws", login: str | None = alice.login, **options: Any
    ) -> AsyncIterator[ClientConnection]:
        headers = {} if login is None else basic(login)
        options = {"subprotocols": [JMAP], "open_timeout": 60, **options}
        async with connect(
            f"ws://{site.host}:{site.port}{path}", additional_headers=headers, **options
        ) as socket:
            yield socket

    return open_socket


async def say(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def hear(socket: ClientConnection) -> Any:
    async with asyncio.timeout(30):
        return json.loads(await socket.recv())


async def arrive(mail: Mail, account: Account, raw: bytes = RAW) -> int:
    accepted = await delivery.accept(mail, raw, [Target(account.id)], received_at=NOW)
    return accepted.delivered[0].modseq


async def test_the_session_says_where(site: Site, alice: Account) -> None:
    _, _, body = await site.get("/jmap/api")
    capabilities = json.loads(body)["capabilities"]
    base = f"{site.host}:{site.port}"
    assert capabilities[URN + "websocket"] == {"url": f"ws://{base}/jmap/ws", "supportsPush": True}
    ticket = capabilities["com:linagora:params:jmap:ws:ticket"]
    assert ticket["generationEndpoint"] == f"http://{base}/jmap/ws/ticket"


async def test_requests_and_errors(opened: Open) -> None:
    async with opened() as socket:
        assert socket.subprotocol == "jmap"
        echo = ["Core/echo", {"hello": True}, "c"]
        request = {"using": [CORE], "methodCalls": [echo], "@type": "Request"}
        await say(socket, id="one", **request)
        answer = await hear(socket)
        assert (answer["@type"], answer["requestId"]) == ("Response", "one")
        assert answer["methodResponses"] == [echo]
        assert answer["sessionState"]
        await say(socket, createdIds={}, **request)
        answer = await hear(socket)
        assert "requestId" not in answer
        assert answer["createdIds"] == {}

        for message, kind, request_id in (
            ("{", "notJSON", None),
            ('{"@type": "Request", "@type": "Request"}', "notJSON", None),
            ("[]", "notRequest", None),
            ('{"@type": "Pigeon", "id": "p"}', "notRequest", "p"),
            ('{"@type": "Request", "id": 7}', "notRequest", None),
            ('{"@type": "Request", "id": "q", "using": []}', "notRequest", "q"),
            (json.dumps({**request, "id": "r", "methodCalls": [echo] * 33}), "limit", "r"),
            (json.dumps({**request, "id": "s", "using": ["x"]}), "unknownCapability", "s"),
            ('{"@type": "WebSocketPushEnable", "dataTypes": "Email"}', "notRequest", None),
            ('{"@type": "WebSocketPushEnable", "pushState": 1}', "notRequest", None),
            (json.dumps({**request, "id": "x" * 20_000}), "limit", None),
        ):
            await socket.send(message)
            answer = await hear(socket)
            assert answer["@type"] == "RequestError"
            assert answer["type"] == f"urn:ietf:params:jmap:error:{kind}", message
            assert answer["requestId"] == request_id
            assert answer["status"] == 400

        # many at once are all answered
        for number in range(40):
            await say(socket, id=str(number), **request)
        ids = {(await hear(socket))["requestId"] for _ in range(40)}
        assert ids == {str(number) for number in range(40)}


async def test_push_begins_where_the_client_is(opened: Open, mail: Mail, alice: Account) -> None:
    own = account_text(alice.id)
    async with opened() as socket:
        await say(socket, **{"@type": "WebSocketPushEnable", "dataTypes": ["Email", "Pigeon"]})
        # an answer to a request shows that the message before it was taken
        await say(socket, **{"@type": "Request", "using": [CORE], "methodCalls": []})
        assert (await hear(socket))["@type"] == "Response"
        modseq = await arrive(mail, alice)
        change = await hear(socket)
        assert change["@type"] == "StateChange"
        assert change["changed"] == {own: {"Email": str(modseq)}}
        place = change["pushState"]
        await say(socket, **{"@type": "WebSocketPushDisable"})
        await say(socket, **{"@type": "Request", "using": [CORE], "methodCalls": []})
        assert (await hear(socket))["@type"] == "Response"
        missed = await arrive(mail, alice)
    async with opened() as socket:
        await say(socket, **{"@type": "WebSocketPushEnable", "dataTypes": None, "pushState": place})
        change = await hear(socket)
        assert change["changed"][own].keys() == {
            "Mailbox", "Email", "Thread", "EmailDelivery", "Quota",
        }  # fmt: skip
        assert change["changed"][own]["Thread"] == str(missed)
        # from a place that is none, everything may have changed
        await say(socket, **{"@type": "WebSocketPushEnable", "pushState": "?", "dataTypes": None})
        change = await hear(socket)
        assert {"Identity", "VacationResponse", "Mailbox"} <= change["changed"][own].keys()


async def test_push_tells_what_changed_since_the_socket_was_opened(
    opened: Open, mail: Mail, alice: Account
) -> None:
    own = account_text(alice.id)
    enable = {"@type": "WebSocketPushEnable", "dataTypes": ["Email"]}
    async with opened() as socket:
        first = await arrive(mail, alice)  # by a connection that was faster than the wish
        await say(socket, **enable)
        assert (await hear(socket))["changed"] == {own: {"Email": str(first)}}
        await say(socket, **enable)  # nothing is told twice
        second = await arrive(mail, alice)
        assert (await hear(socket))["changed"] == {own: {"Email": str(second)}}


async def test_push_of_shared_accounts(
    opened: Open, mail: Mail, alice: Account, bob: Account
) -> None:
    theirs = account_text(alice.id)
    inbox = await mailboxes.by_path(mail, alice.id, "INBOX")
    (private,) = await mailboxes.create(mail, alice.id, "Private")
    async with opened(login=bob.login) as socket:
        await say(socket, **{"@type": "WebSocketPushEnable", "dataTypes": None})
        await say(socket, **{"@type": "Request", "using": [CORE], "methodCalls": []})
        assert (await hear(socket))["@type"] == "Response"
        await arrive(mail, alice)
        bobs = rights.Identifier(bob.id, False)
        await rights.modify(
            mail, alice.id, inbox.id, bobs, RightsChange.REPLACE, rights.parse("lr")
        )
        change = await hear(socket)
        assert change["changed"][theirs].keys() == {"Mailbox", "Email", "Thread", "EmailDelivery"}
        await delivery.accept(mail, RAW, [Target(alice.id, private.id)], received_at=NOW)
        seen = await arrive(mail, alice)
        change = await hear(socket)
        assert change["changed"][theirs]["Email"].startswith(f"{seen}.")


async def test_who_may_open(opened: Open, site: Site, alice: Account, bob: Account) -> None:
    async def refused(*arguments: Any, **options: Any) -> int:
        with pytest.raises(InvalidStatus) as error:
            async with opened(*arguments, **options):
                pass
        assert error.value.response.headers["Content-Type"] == "application/problem+json"
        return error.value.response.status_code

    assert await refused(login=None) == 401
    assert await refused(login="nobody@example.test") == 401
    assert await refused("/jmap/elsewhere") == 404
    assert await refused(subprotocols=[Subprotocol("soap")]) == 400
    assert await refused("/jmap/ws?ticket=none", login=alice.login) == 401

    async def make(method: str = "POST", path: str = "", login: str | None = bob.login) -> Any:
        path = "/jmap/ws/ticket" + path
        body = b"" if method == "POST" else None
        status, _, answer = await asyncio.to_thread(site.ask, method, path, body, login=login)
        return status, json.loads(answer) if answer else None

    assert (await make(login=None))[0] == 401
    status, ticket = await make()
    assert status == 200
    assert ticket.keys() == {"value", "clientAddress", "generatedOn", "validUntil"}
    async with opened("/jmap/ws?ticket=" + ticket["value"], login=None) as socket:
        get = ["Mailbox/get", {"accountId": account_text(bob.id), "ids": []}, "0"]
        await say(socket, **{"@type": "Request", "using": [MAIL], "methodCalls": [get]})
        assert (await hear(socket))["methodResponses"][0][0] == "Mailbox/get"
    # it was good for one connection
    assert await refused("/jmap/ws?ticket=" + ticket["value"], login=None) == 401
    _, ticket = await make()
    assert (await make("DELETE", "/" + ticket["value"], alice.login))[0] == 404
    assert (await make("DELETE", "/" + ticket["value"]))[0] == 204
    assert await refused("/jmap/ws?ticket=" + ticket["value"], login=None) == 401


async def test_an_account_may_open_so_many(opened: Open) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(opened())
        with pytest.raises(InvalidStatus) as error:
            await stack.enter_async_context(opened())
        assert error.value.response.status_code == 429
    async with opened():
        pass


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (Frame(Opcode.TEXT, b"\xff").serialize(mask=True), 1007),
        (Frame(Opcode.TEXT, b"x" * 30_000).serialize(mask=True), 1009),
        (Frame(Opcode.BINARY, b"x").serialize(mask=True), 1003),
        (Frame(Opcode.TEXT, b"x").serialize(mask=False), 1002),
        (Frame(Opcode.CONT, b"x").serialize(mask=True), 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\xff" * 40, 1002),
    ],
)
async def test_garbage_closes_the_connection(opened: Open, octets: bytes, code: int) -> None:
    async with opened() as socket:
        socket.transport.write(octets)
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(30):
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code


async def test_a_message_of_endless_frames_is_cut_off(opened: Open) -> None:
    async with opened() as socket:
        empty = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True)
        socket.transport.write(Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True))
        for _ in range(30):
            socket.transport.write(empty * 1000)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 30)


async def test_a_stop_tells_the_clients(opened: Open, site: Site) -> None:
    async with opened() as socket:
        site.app.drain()
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(30):
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


@pytest.mark.parametrize("error", [BrokenPipeError, TimeoutError])
async def test_a_peer_that_leaves_before_its_answer_is_no_fault(
    mail: Mail, alice: Account, caplog: pytest.LogCaptureFixture, error: type[OSError]
) -> None:
    async def lost(_: Hold) -> None:
        await asyncio.Event().wait()

    async def receive() -> Message:
        return {"type": "websocket.receive", "text": "{"}

    async def send(message: Message) -> None:
        if message["type"] == "websocket.send":
            raise error

    sockets = WebSockets(mail, Api(mail), lost)
    principal = Principal(alice.id, alice.login)
    async with asyncio.timeout(30):
        await sockets.serve(Hold(principal, None), Origin("session"), receive, send)
    assert sockets.has_room(alice.id)
    assert not [each for each in caplog.records if each.exc_info]


async def test_a_change_that_a_new_wish_interrupts_is_told_again(
    mail: Mail, alice: Account
) -> None:
    """The peer is slow to take a change, and asks anew before it did."""
    enable = {"@type": "WebSocketPushEnable", "dataTypes": ["Email"]}
    wish: Message = {"type": "websocket.receive", "text": json.dumps(enable)}
    opened, blocked, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    told: list[Any] = []

    async def lost(_: Hold) -> None:
        await asyncio.Event().wait()

    async def messages() -> AsyncIterator[Message]:
        yield wish
        await blocked.wait()
        yield wish
        await done.wait()
        yield {"type": "websocket.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "websocket.accept":
            opened.set()
        elif not blocked.is_set():
            blocked.set()
            await asyncio.Event().wait()
        else:
            told.append(json.loads(message["text"]))
            done.set()

    sockets = WebSockets(mail, Api(mail), lost)
    hold = Hold(Principal(alice.id, alice.login), None)
    incoming = messages()
    async with asyncio.timeout(30):
        serving = asyncio.create_task(
            sockets.serve(hold, Origin("session"), incoming.__anext__, send)
        )
        await opened.wait()
        modseq = await arrive(mail, alice)
        await serving
    assert [each["changed"] for each in told] == [{account_text(alice.id): {"Email": str(modseq)}}]
