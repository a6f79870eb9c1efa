"""The same mail by JMAP and IMAP: each sees at once what the other does, at the same modseq."""

import json
from typing import Any

from mailserver.jmap import methods
from mailserver.jmap.protocol.ids import account_text
from mailserver.jmap.protocol.request import parse_request
from mailserver.jmap.session import Limits, Session
from mailserver.mail.context import Mail
from mailserver.model import Account, Principal
from tests.integration.imap.conftest import Client, Connect, Deliver, Servers

USING = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"]


class Jmap:
    """Calls methods as alice."""

    def __init__(self, mail: Mail, account: Account) -> None:
        self._mail = mail
        self._principal = Principal(account.id, account.login)
        self._account = account_text(account.id)

    async def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        calls = [[method, {"accountId": self._account, **arguments}, "0"]]
        body = json.dumps({"using": USING, "methodCalls": calls}).encode()
        limits = Limits.of(self._mail.config)
        session = Session(self._mail, self._principal, limits, "test")
        ((name, answer, _),) = await methods.answer(session, parse_request(body, max_calls=1))
        assert name == method, answer
        found: dict[str, Any] = answer
        return found


async def told(client: Client, *wanted: bytes) -> None:
    """Read from an idle session until a line says all of this."""
    line = b"* "
    while not all(each in line for each in wanted):
        line = await client.line()
        assert line.startswith(b"* "), line


async def test_what_jmap_changes_imap_hears(
    mail: Mail, alice: Account, servers: Servers, connect: Connect, deliver: Deliver
) -> None:
    await deliver(b"Subject: one\r\n\r\nbody\r\n")
    client = await connect(await servers.start())
    await client.log_in()
    await client.ask(b"ENABLE CONDSTORE")
    assert b"* 1 EXISTS\r\n" in await client.ask(b"SELECT INBOX")
    await client.send(b"i IDLE\r\n")
    assert (await client.line()).startswith(b"+")
    jmap = Jmap(mail, alice)
    inbox = (await jmap.call("Mailbox/query", filter={"role": "inbox"}))["ids"][0]
    trash = (await jmap.call("Mailbox/query", filter={"role": "trash"}))["ids"][0]
    one = (await jmap.call("Email/query"))["ids"][0]

    flagged = await jmap.call("Email/set", update={one: {"keywords/$flagged": True}})
    modseq = flagged["newState"].encode()
    await told(client, b"* 1 FETCH (UID 1 FLAGS (\\Flagged", b"MODSEQ (%s)" % modseq)
    draft = {
        "mailboxIds": {inbox: True}, "keywords": {"$draft": True}, "subject": "two",
        "textBody": [{"partId": "t"}], "bodyValues": {"t": {"value": "text"}},
    }  # fmt: skip
    made = await jmap.call("Email/set", create={"d": draft})
    await told(client, b"* 2 EXISTS")
    await jmap.call("Email/set", update={one: {"mailboxIds": {trash: True}}})
    await told(client, b"* 1 EXPUNGE")
    await jmap.call("Email/set", destroy=[made["created"]["d"]["id"]])
    await told(client, b"* 1 EXPUNGE")
    await client.send(b"DONE\r\n")
    assert (await client.until(b"i"))[-1].startswith(b"i OK")


async def test_what_imap_changes_jmap_reports(
    mail: Mail, alice: Account, servers: Servers, connect: Connect, deliver: Deliver
) -> None:
    await deliver(b"Subject: one\r\n\r\nbody\r\n")
    client = await connect(await servers.start())
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    jmap = Jmap(mail, alice)
    one = (await jmap.call("Email/query"))["ids"][0]
    state = (await jmap.call("Email/get", ids=[]))["state"]

    async def changed() -> dict[str, Any]:
        nonlocal state
        found = await jmap.call("Email/changes", sinceState=state)
        state = found["newState"]
        return {name: found[name] for name in ("created", "updated", "destroyed")}

    await client.ask(b"STORE 1 +FLAGS (\\Flagged Work)")
    assert await changed() == {"created": [], "updated": [one], "destroyed": []}
    (email,) = (await jmap.call("Email/get", ids=[one], properties=["keywords"]))["list"]
    assert email["keywords"] == {"$flagged": True, "work": True}
    await jmap.call("Email/set", update={one: {"keywords/work": None}})
    assert b"* 1 FETCH (UID 1 FLAGS (\\Flagged \\Recent))\r\n" in await client.ask(b"NOOP")
    await changed()
    await client.ask(b"COPY 1 Archive")
    assert await changed() == {"created": [], "updated": [one], "destroyed": []}
    await client.ask(b"STORE 1 +FLAGS (\\Deleted)")
    await client.ask(b"EXPUNGE")
    assert await changed() == {"created": [], "updated": [one], "destroyed": []}
    made = await jmap.call("Mailbox/set", create={"w": {"name": "W\u00f6rk"}})
    listed = await client.ask(b'LIST "" *')
    assert b'* LIST (\\HasNoChildren) "/" W&APY-rk\r\n' in listed
    await client.ask(b"DELETE W&APY-rk")
    assert await changed() == {"created": [], "updated": [], "destroyed": []}
    gone = await jmap.call("Mailbox/changes", sinceState=made["newState"])
    assert gone["destroyed"] == [made["created"]["w"]["id"]]
