"""Clients that only apply what they are told have what the server has, after any history.

Clients of every kind change, move and remove messages at once, leave and come back; some only
listen, in IDLE or by NOTIFY. They are on one server process or on two, which share the database and
nothing else. Mail arrives all the time.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from mailserver.auth.credentials import Authenticator
from mailserver.config import Config, Listener
from mailserver.imap.commands import fetch_reading
from mailserver.imap.server import ImapServer
from mailserver.mail import delivery, deltas, listings, mailboxes
from mailserver.mail.context import Mail
from mailserver.metrics import Metrics
from mailserver.model import Account
from mailserver.storage.database import Database
from mailserver.storage.notify import Notifier
from tests.conftest import Bucketed, make_mail
from tests.imap_model import Connect, ModelClient
from tests.integration.conftest import Tls

TURNS = 30
FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "\\Answered", "$Junk", "other")
ALL_EVENTS = "(MessageNew MessageExpunge FlagChange)"
SELECTED = "(selected (MessageNew (UID FLAGS) MessageExpunge FlagChange))"
DELAYED = "(selected-delayed (MessageNew (UID FLAGS) MessageExpunge FlagChange))"


@asynccontextmanager
async def _process(mail: Mail, database: Database, tls: Tls, name: str) -> AsyncIterator[Connect]:
    """Run what one server process has; yield how to connect to it."""
    notifier = Notifier(database, mail.events, Metrics(name), name)
    deltas.share(mail, notifier)
    notifying = asyncio.create_task(notifier.run())
    await notifier.listening.wait()
    server = ImapServer(
        mail=mail,
        authenticator=Authenticator(mail.database, passwords=mail.passwords),
        tls=tls.server,
        implicit_tls=False,
    )
    _, port = await server.start(Listener(host="127.0.0.1", port=0))
    try:
        yield lambda: asyncio.open_connection("127.0.0.1", port)
    finally:
        await server.stop(5)
        notifying.cancel()
        await asyncio.wait([notifying])


class World:
    """The clients, and what happens to them."""

    def __init__(self, mail: Mail, account: Account, choose: random.Random) -> None:
        self.mail = mail
        self.account = account
        self.choose = choose
        self.active: list[ModelClient] = []
        self.listeners: list[ModelClient] = []

    async def turn(self) -> None:
        """Let every client do something, and mail arrive."""
        await asyncio.gather(
            self._deliver(),
            *(self._step(client) for client in self.active),
            *(self._perhaps_return(client) for client in self.listeners),
        )

    async def _deliver(self) -> None:
        for _ in range(self.choose.randrange(3)):
            subject = self.choose.choice("abcdefgh")
            await delivery.accept(
                self.mail,
                f"Subject: {subject}\r\n\r\n{subject}\r\n".encode(),
                [delivery.Target(self.account.id)],
                received_at=self.mail.now(),
            )

    async def _perhaps_return(self, client: ModelClient) -> None:
        if self.choose.random() < 0.1:
            await client.close()
            await client.open()

    async def _step(self, client: ModelClient) -> None:
        choose = self.choose
        if client.idling:
            await client.done()
        elif choose.random() < 0.1:
            await client.idle()
            return
        elif choose.random() < 0.1:
            await client.close()
            await client.open()
        else:
            await client.do(self._command(client))
        await client.learn()

    def _command(self, client: ModelClient) -> str:
        choose = self.choose
        there = [message.uid for message in client.messages if message.uid]
        uid = choose.choice(there) if there else 1
        count = len(client.messages)
        flag, sign = choose.choice(FLAGS), choose.choice("+-")
        other = "Other" if client.mailbox == "INBOX" else "INBOX"
        target = choose.choice([other, client.mailbox])
        commands: list[Callable[[], str]] = [
            lambda: "NOOP",
            lambda: "EXPUNGE",
            lambda: f"UID EXPUNGE {uid}:{uid + 5}",
            lambda: f"UID STORE {uid}:{uid + 3} {sign}FLAGS ({flag})",
            lambda: f"UID COPY {uid}:{uid + 2} {other}",
            lambda: f"UID MOVE {uid}:{uid + 2} {other}",
            lambda: f"APPEND {target} {{14+}}\r\nSubject: x\r\n\r\n",
        ]
        # what is told between commands crosses with them: then neither a number nor what a silent
        # STORE leaves is known
        if count and not client.notify:
            number = choose.randint(1, count)
            commands += [
                lambda: f"UID STORE {uid}:{uid + 9} {sign}FLAGS.SILENT ({flag})",
                lambda: f"STORE {number} {sign}FLAGS ({flag})",
                lambda: f"FETCH {number}:{count} (UID FLAGS{' MODSEQ' if client.qresync else ''})",
                lambda: f"MOVE {number} {other}",
            ]
        return choose.choice(commands)()

    async def settle(self) -> None:
        """Compare every client with the server, when each was told everything."""
        for client in self.active:
            if client.idling:
                await self._compare(client)
                await client.done()
            else:
                await client.do("NOOP")
            await client.learn()
            # what this made known to others is told to all before any is compared
        for client in [*self.active, *self.listeners]:
            await self._compare(client)

    async def _compare(self, client: ModelClient) -> None:
        mail, account = self.mail, self.account.id
        boxes = {box.path: box for box in await mailboxes.list_all(mail, account)}
        listing = await listings.open_listing(mail, account, boxes[client.mailbox].id)
        there = [
            (uid, frozenset(listing.flags_of(index).names()))
            for index, uid in enumerate(listing.uids)
        ]

        def knows() -> bool:
            if client.idling and not client.notify:
                return _agrees(client, there)
            return [(each.uid, each.flags) for each in client.messages] == there

        with suppress(TimeoutError):
            await client.until(knows)
        shown = [(each.uid, each.flags) for each in client.messages]
        assert knows(), f"{client.mailbox} {client.notify}\n{shown}\n{there}"
        await self._compare_results(client, there)
        if client in self.listeners and client.notify:
            other = boxes["Other" if client.mailbox == "INBOX" else "INBOX"]
            numbers = {
                "MESSAGES": other.total, "UIDNEXT": other.uidnext,
                "UIDVALIDITY": other.uidvalidity,
            }  # fmt: skip

            def heard() -> bool:
                status = client.status[other.path]
                unseen = status.get("UNSEEN", other.unseen)  # the first STATUS has none
                return numbers.items() <= status.items() and unseen == other.unseen

            with suppress(TimeoutError):
                await client.until(heard)
            assert heard(), f"{client.status}\n{numbers}"

    async def _compare_results(
        self, client: ModelClient, there: list[tuple[int, frozenset[str]]]
    ) -> None:
        """Compare the results of searches with what matches."""
        if not client.updates or client.idling:
            return
        unseen, undeleted, *flagged = client.results.values()
        assert unseen == [uid for uid, flags in there if "\\Seen" not in flags]
        await client.do("UID SORT (REVERSE SUBJECT) UTF-8 UNDELETED")
        assert undeleted == client.sorted
        if flagged:
            assert flagged[0] == [
                number for number, (_, flags) in enumerate(there, 1) if "\\Flagged" in flags
            ]


def _agrees(client: ModelClient, there: list[tuple[int, frozenset[str]]]) -> bool:
    """Whether a client that cannot ask knows how many there are, and all that it asked before."""
    return len(client.messages) == len(there) and all(
        (each.uid or uid) == uid and (each.flags is None or each.flags == flags)
        for each, (uid, flags) in zip(client.messages, there, strict=True)
    )


@pytest.mark.parametrize(
    ("seed", "processes", "rows"), [(1, 1, 2), (2, 2, fetch_reading.FLAG_ROWS), (3, 2, 3)]
)
async def test_clients_have_what_the_server_has(
    mail: Mail,
    alice: Account,
    database: Database,
    bucket: Bucketed,
    config: Config,
    tls: Tls,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    processes: int,
    rows: int,
) -> None:
    monkeypatch.setattr(fetch_reading, "FLAG_ROWS", rows)  # others act in between
    choose = random.Random(seed)
    await mailboxes.create(mail, alice.id, "Other")
    second = mail if processes == 1 else make_mail(database, bucket.blobs, config, node=2)
    async with _process(mail, database, tls, "one") as here:
        if processes == 1:
            await _run(World(mail, alice, choose), here, here)
        else:
            async with _process(second, database, tls, "two") as there:
                await _run(World(mail, alice, choose), here, there)
            await second.committer.drain()
            second.passwords.close()


async def _run(world: World, here: Connect, there: Connect) -> None:
    login = world.account.login
    others = f"(personal {ALL_EVENTS})"
    world.active = [
        ModelClient(here, login, "INBOX"),
        ModelClient(there, login, "INBOX", updates=True),
        ModelClient(here, login, "INBOX", qresync=True, updates=True),
        ModelClient(there, login, "Other", qresync=True),
        ModelClient(there, login, "Other"),
        ModelClient(here, login, "INBOX", notify=SELECTED, updates=True),
        ModelClient(there, login, "Other", notify=f"{SELECTED} {others}", qresync=True),
    ]
    world.listeners = [
        ModelClient(here, login, "INBOX", notify=f"{SELECTED} {others}", updates=True),
        ModelClient(there, login, "INBOX", notify=f"{SELECTED} {others}", qresync=True),
        ModelClient(there, login, "Other", notify=f"{SELECTED} {others}"),
    ]
    everybody = [*world.active, *world.listeners]
    for client in everybody:
        await client.open()
    for turn in range(TURNS):
        await world.turn()
        if turn % 6 == 5:
            await world.settle()
    for client in everybody:
        await client.close()
