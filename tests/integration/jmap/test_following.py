"""Random changes by delivery and IMAP; whoever follows by /changes must know all of them."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from mailserver.auth.credentials import Authenticator
from mailserver.config import Config, Listener
from mailserver.errors import MailError
from mailserver.imap.server import ImapServer
from mailserver.jmap.protocol.ids import account_text, mailbox_text
from mailserver.jmap.server import Application, application
from mailserver.mail import delivery, mailboxes, messages
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.listings import open_listing
from mailserver.mail.thread_counts import ThreadCounts
from mailserver.model import Account, FlagChange, Flags, MailboxId
from tests.integration.conftest import Tls
from tests.jmap_model import JmapClient, View

PASSWORD = "correct horse"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PATIENCE = 30.0  # seconds until an answer that does not come fails the test
STEPS = 60
FLAGS = ["\\Seen", "\\Flagged", "\\Deleted", "\\Deleted", "\\Answered", "work", "$Junk"]
NEWEST = [{"property": "receivedAt", "isAscending": False}]


@pytest.fixture
def config() -> Config:
    return Config.model_validate(
        {"server": {"hostname": "mail.example.test"}, "imap": {"allow_plaintext_login": True}}
    )


@pytest_asyncio.fixture
async def app(mail: Mail) -> AsyncIterator[Application]:
    async def ready() -> list[str]:
        return []

    authenticator = Authenticator(mail.database, passwords=mail.passwords)
    yield application(mail=mail, authenticator=authenticator, ready=ready)


def views(inbox: str, other: str) -> list[View]:
    """Filters and orders of every kind: immutable, by mailbox, by keyword, by thread."""
    by_keyword = {"property": "hasKeyword", "keyword": "$seen", "isAscending": False}
    by_thread = {"property": "someInThreadHaveKeyword", "keyword": "$flagged"}
    asked: list[dict[str, Any]] = [
        {"filter": {"inMailbox": inbox}, "sort": NEWEST},
        {"filter": {"inMailbox": inbox}, "sort": NEWEST, "collapseThreads": True},
        {"filter": {"inMailbox": other}, "sort": [{"property": "receivedAt"}]},
        {"filter": {"inMailboxOtherThan": [inbox]}, "sort": [{"property": "size"}]},
        {"filter": {"inMailbox": inbox, "notKeyword": "$seen"}, "sort": NEWEST},
        {"filter": {"inMailbox": inbox, "notKeyword": "Work"}, "collapseThreads": True},
        {"filter": {"inMailboxOtherThan": [inbox, other], "notKeyword": "$flagged"}},
        {"filter": {"text": "lunch"}, "sort": NEWEST},
        {"filter": {"hasKeyword": "work"}, "collapseThreads": True},
        {"filter": {"noneInThreadHaveKeyword": "$flagged"}, "sort": NEWEST},
        {"filter": {"inMailbox": inbox, "allInThreadHaveKeyword": "$seen"}},
        {"filter": {"subject": "lunch"}, "sort": [{"property": "subject"}]},
        {"sort": [by_keyword, {"property": "from"}]},
        {"filter": {"inMailbox": inbox}, "sort": [by_thread], "collapseThreads": True},
        {"sort": NEWEST, "collapseThreads": True},
        {
            "filter": {
                "operator": "OR",
                "conditions": [
                    {"inMailbox": other},
                    {"operator": "NOT", "conditions": [{"someInThreadHaveKeyword": "$seen"}]},
                ],
            }
        },
    ]
    named = {"sort": [{"property": "name"}]}
    return [
        *(View("Email", each) for each in asked),
        View("Mailbox", {}),
        View("Mailbox", named | {"sortAsTree": True}),
        View("Mailbox", {"filter": {"hasAnyRole": False}, **named, "filterAsTree": True}),
        View("Mailbox", {"filter": {"isSubscribed": True, "name": "b"}}),
    ]


class ImapClient:
    """One IMAP client that changes whatever it can."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def do(self, command: str) -> str:
        """Send a command and return all that is said until its answer, which must not be BAD."""
        self._writer.write(f"a {command}\r\n".encode())
        said, line = "", ""
        while not line.startswith("a "):
            line = (await asyncio.wait_for(self._reader.readline(), PATIENCE)).decode()
            assert line, said
            said += line
        assert not line.startswith("a BAD"), (command, said)
        return said

    async def act(self, random: Random) -> None:
        """Open some mailbox and change its messages."""
        listed = await self.do('LIST "" "*"')
        paths = re.findall(r'"/" "?([^"\r]+)"?\r', listed)
        path, other = random.choice(["INBOX", *paths]), random.choice(paths)
        if not (await self.do(f'SELECT "{path}"')).endswith("completed\r\n"):
            return
        flags = " ".join(random.sample(FLAGS, random.randint(1, 2)))
        messages = random.choice(["1", "*", "1:2", "1:*"])
        await self.do(
            random.choice(
                [
                    f"UID STORE {messages} {random.choice(['', '+', '-'])}FLAGS ({flags})",
                    f'UID MOVE {messages} "{other}"',
                    f'UID COPY {messages} "{other}"',
                    "EXPUNGE",
                    "CLOSE",
                ]
            )
        )


class Others:
    """What delivery and IMAP clients do to an account meanwhile."""

    def __init__(self, mail: Mail, account: Account, random: Random) -> None:
        self.mail = mail
        self.account = account.id
        self.random = random
        self.known: list[str] = []  # message ids

    async def deliver(self) -> None:
        """Let a message come: perhaps a reply, perhaps before what it answers."""
        number = self.random.randrange(10**9)
        subject = self.random.choice(["Lunch", "Dinner", "Tea"])
        lines = [
            f"From: {self.random.choice('abc')}@example.org",
            f"Subject: {self.random.choice(['', 'Re: '])}{subject}",
            f"Message-ID: <{number}@example.org>",
        ]
        if self.known and self.random.random() < 0.6:
            some = self.random.sample(self.known, min(len(self.known), self.random.randint(1, 2)))
            lines.append("References: " + " ".join(f"<{each}@example.org>" for each in some))
        elif self.random.random() < 0.3:
            self.known.append(str(number + 1))  # comes later or never
            lines.append(f"In-Reply-To: <{number + 1}@example.org>")
        self.known.append(str(number))
        raw = "\r\n".join([*lines, "", "x" * self.random.randrange(300)]).encode()
        flags = Flags.of(self.random.sample(FLAGS, self.random.choice([0, 0, 1])))
        target = Target(self.account, await self.mailbox(), flags)
        await delivery.accept(
            self.mail, raw, [target], received_at=NOW + timedelta(minutes=self.random.randrange(99))
        )

    async def mailbox(self) -> MailboxId:
        there = await mailboxes.list_all(self.mail, self.account)
        return self.random.choice([there[0], *there]).id

    async def some(self) -> tuple[MailboxId, list[int]]:
        """Choose messages of a mailbox."""
        mailbox = await self.mailbox()
        uids = list((await open_listing(self.mail, self.account, mailbox)).uids)
        return mailbox, self.random.sample(uids, min(len(uids), self.random.randint(1, 3)))

    async def flag(self) -> None:
        mailbox, uids = await self.some()
        mode = self.random.choice(list(FlagChange))
        flags = Flags.of(self.random.sample(FLAGS, self.random.randint(1, 2)))
        await messages.store(self.mail, self.account, mailbox, uids, mode, flags)

    async def expunge(self) -> None:
        await messages.expunge(self.mail, self.account, await self.mailbox(), None)

    async def copy(self) -> None:
        mailbox, uids = await self.some()
        await messages.copy(self.mail, self.account, mailbox, uids, await self.mailbox())

    async def move(self) -> None:
        mailbox, uids = await self.some()
        await messages.move(self.mail, self.account, mailbox, uids, await self.mailbox())

    async def make(self) -> None:
        path = "/".join(self.random.sample("abc", self.random.randint(1, 2)))
        await mailboxes.create(self.mail, self.account, path, subscribed=bool(self.known))

    async def rename(self) -> None:
        path = "/".join(self.random.sample("abcd", self.random.randint(1, 2)))
        await mailboxes.rename(self.mail, self.account, await self.mailbox(), path)

    async def delete(self) -> None:
        await mailboxes.delete(self.mail, self.account, await self.mailbox())

    async def subscribe(self) -> None:
        there = await mailboxes.list_all(self.mail, self.account)
        chosen = self.random.choice(there)
        await mailboxes.subscribe(self.mail, self.account, chosen.path, not chosen.subscribed)

    async def act(self) -> None:
        """Do something; what cannot be done is not."""
        often = [self.deliver] * 4 + [self.flag] * 4 + [self.copy, self.move, self.expunge]
        rare = [self.make, self.rename, self.delete, self.subscribe]
        with contextlib.suppress(MailError):
            await self.random.choice(often * 2 + rare)()


async def recount(mail: Mail, account: Account, client: JmapClient) -> None:
    """Compare the counts that were followed with those of who counts everything now."""
    _, counts = await ThreadCounts().of(mail, account.id, int(client.states["Mailbox"]))
    names = ("totalEmails", "unreadEmails", "totalThreads", "unreadThreads")
    shown = {
        each: tuple(mailbox[name] for name in names)
        for each, mailbox in client.objects["Mailbox"].items()
        if mailbox["totalEmails"]
    }
    assert shown == {mailbox_text(each): tuple(numbers) for each, numbers in counts.items()}


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_follows_knows_everything(
    app: Application, mail: Mail, alice: Account, seed: int
) -> None:
    random = Random(seed)
    others = Others(mail, alice, random)
    for _ in range(5):
        await others.deliver()
    there = await mailboxes.list_all(mail, alice.id)
    client = JmapClient(app, account_text(alice.id), alice.login, PASSWORD)
    shown = (await client.call("Mailbox/get"))["list"]
    client.views = views(
        *(next(m["id"] for m in shown if m["role"] == r) for r in ("inbox", "trash"))
    )
    assert len(there) == len(shown)
    await client.load()
    for _ in range(STEPS):
        for _ in range(random.randint(1, 3)):
            await others.act()
        if random.random() < 0.7:
            await client.sync(random)
            await client.check()
            await recount(mail, alice, client)
    await client.sync(random)
    await client.check()


@pytest_asyncio.fixture
async def imap(mail: Mail, tls: Tls, alice: Account) -> AsyncIterator[ImapClient]:
    server = ImapServer(
        mail=mail,
        authenticator=Authenticator(mail.database, passwords=mail.passwords),
        tls=tls.server,
        implicit_tls=False,
        write_timeout=60,
    )
    _, port = await server.start(Listener(host="127.0.0.1", port=0))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    client = ImapClient(reader, writer)
    await client.do(f'LOGIN {alice.login} "{PASSWORD}"')
    yield client
    writer.close()
    await server.stop(5)


@pytest.mark.parametrize("seed", range(3))
async def test_two_jmap_clients_and_one_imap_client(
    app: Application, mail: Mail, alice: Account, imap: ImapClient, seed: int
) -> None:
    random = Random(seed)
    others = Others(mail, alice, random)
    clients = [JmapClient(app, account_text(alice.id), alice.login, PASSWORD) for _ in range(2)]
    shown = (await clients[0].call("Mailbox/get"))["list"]
    for client in clients:
        client.views = views(
            *(next(each["id"] for each in shown if each["role"] == r) for r in ("inbox", "trash"))
        )
        await client.load()
    for _ in range(STEPS):
        for _ in range(random.randint(1, 3)):
            client = random.choice(clients)
            actors: list[Callable[[], Awaitable[None]]] = [
                others.deliver, partial(imap.act, random), partial(client.change, random),
            ]  # fmt: skip
            await random.choice(actors)()
        if random.random() < 0.6:
            client = random.choice(clients)
            await client.sync(random)
            await client.check()
            await recount(mail, alice, client)
    for client in clients:
        await client.sync(random)
        await client.check()


@pytest.mark.parametrize("seed", range(2))
async def test_following_while_others_go_on(
    app: Application, mail: Mail, alice: Account, seed: int
) -> None:
    random = Random(seed)
    others = Others(mail, alice, random)
    client = JmapClient(app, account_text(alice.id), alice.login, PASSWORD)
    shown = (await client.call("Mailbox/get"))["list"]
    client.views = views(
        *(next(m["id"] for m in shown if m["role"] == r) for r in ("inbox", "trash"))
    )
    await client.load()

    async def go_on() -> None:
        for _ in range(STEPS):
            await others.act()

    going = asyncio.create_task(go_on())
    while not going.done():
        for view in client.views:
            await client._splice(view, total=False)
    await going
    for view in client.views:
        await client._splice(view, total=True)
        ids, _, _ = await client.fresh(view)
        assert view.ids == ids, view.arguments
