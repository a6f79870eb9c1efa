"""Search text is made behind delivery: nothing is left out, whatever ends the work."""

import asyncio
import base64
import contextlib
import quopri
import random
import sys
from array import array
from collections.abc import Sequence

import pytest

from mailserver.app.search_process import FEW, SearchProcesses
from mailserver.config import Config
from mailserver.errors import Unavailable
from mailserver.mail import (
    common_words,
    delivery,
    flags,
    frames,
    fsck,
    mailboxes,
    making,
    messages,
    search,
    search_bodies,
    text_index,
)
from mailserver.mail.context import Mail
from mailserver.mail.criteria import (
    All,
    Contains,
    Criterion,
    HeaderField,
    InMailbox,
    Place,
    Query,
    Window,
)
from mailserver.mail.delivery import Target
from mailserver.mail.listings import open_listing
from mailserver.mail.makers import Threads
from mailserver.mail.making import Given, Made
from mailserver.mail.search_vocabularies import SearchVocabularies
from mailserver.mail.shelves import SHELF_SIZE
from mailserver.mail.text_index import Hits
from mailserver.model import DELETED, Account, AccountId, EmailId, FlagChange, Flags, MailboxId
from mailserver.storage import search_frames, search_text
from mailserver.storage.database import Database
from tests.conftest import Bucketed, make_mail

OWNER = "test"


def raw(subject: str, body: str, more: str = "") -> bytes:
    header = f"From: Ann <ann@example.test>\nTo: bob@example.test\nSubject: {subject}\n{more}"
    text = f"{header}\n{body}\n"
    return text.replace("\n", "\r\n").encode()


async def deliver(mail: Mail, account: Account, *texts: bytes) -> list[EmailId]:
    accepted = await asyncio.gather(
        *(
            delivery.accept(mail, text, [Target(account.id)], received_at=mail.now())
            for text in texts
        )
    )
    return [each.delivered[0].email_id for each in accepted]


async def inbox(mail: Mail, account: Account) -> MailboxId:
    return (await mailboxes.by_path(mail, account.id, "INBOX")).id


async def destroy(mail: Mail, account: Account, box: MailboxId, uids: Sequence[int]) -> None:
    await flags.store(mail, account.id, box, uids, FlagChange.ADD, Flags(DELETED))
    await messages.expunge(mail, account.id, box, None)


async def uids_of(mail: Mail, account: Account, box: MailboxId) -> list[int]:
    listing = await open_listing(mail, account.id, box)
    return listing.uids.tolist()


async def found(mail: Mail, account: Account, place: Place, *words: str) -> set[int]:
    [hits] = await text_index.find(mail, account.id, [Contains(place, words)])
    assert not hits.unread
    return set(hits.ids)


async def check(database: Database, account: AccountId) -> None:
    """The index has every email that exists once, and frames have the text of each once."""
    ids = {
        row["id"]
        for row in await database.fetch("SELECT id FROM email WHERE account_id = $1", account)
    }
    rows = await database.fetch("SELECT email_id FROM search_word WHERE account_id = $1", account)
    assert sorted(row["email_id"] for row in rows) == sorted(ids)
    places = await search_frames.frames_of(database, account, 0, search_text.EVERYTHING)
    members = [each for place in places for each in place.email_ids]
    assert sorted(each for each in members if each in ids) == sorted(ids)
    assert sum(place.dead for place in places) == len(members) - len(ids)
    data = await search_frames.texts(database, account, [place.id for place in places])
    for place in places:
        texts = list(frames.Frame(place.email_ids, data[place.id]).texts())
        assert array("q", [each.email_id for each in texts]) == place.email_ids


async def test_a_query_finds_what_was_delivered_before_it(mail: Mail, alice: Account) -> None:
    first, second = await deliver(
        mail,
        alice,
        raw("Invoice", "for the Zürich office"),
        raw("Holiday", "an invoice, annually", "List-Id: <news.example.test>\n"),
    )
    assert await found(mail, alice, Place.TEXT, "invo") == {first, second}
    assert await found(mail, alice, Place.SUBJECT, "invoice") == {first}
    assert await found(mail, alice, Place.BODY, "invoice") == {second}
    assert await found(mail, alice, Place.BODY, "zurich") == {first}
    assert await found(mail, alice, Place.FROM, "ann@example.test") == {first, second}
    assert await found(mail, alice, Place.TO, "ann") == set()
    assert await found(mail, alice, Place.TEXT, "invoice", "holiday") == {second}
    assert await found(mail, alice, Place.TEXT, "...") == set()
    [with_field] = await text_index.find(mail, alice.id, [HeaderField("list-id", None)])
    assert with_field.exact
    assert set(with_field.ids) == {second}
    [phrase] = await text_index.find(mail, alice.id, [Contains(Place.BODY, ("zurich office",))])
    assert not phrase.exact
    assert set(phrase.ids) == {first}
    await check(mail.database, alice.id)


async def test_the_index_follows_what_comes_and_goes(mail: Mail, alice: Account) -> None:
    dice = random.Random(4)
    box = await inbox(mail, alice)
    for round in range(12):
        await deliver(
            mail, alice, *(raw(f"n{round}", f"body {n}") for n in range(dice.randint(1, 9)))
        )
        uids = await uids_of(mail, alice, box)
        gone = dice.sample(uids, dice.randint(0, len(uids) // 3))
        if gone:
            await destroy(mail, alice, box, gone)
        assert await mail.indexer.catch_up(alice.id, 1000)
        await check(mail.database, alice.id)
    await mail.indexer.sweep_once(OWNER)
    await check(mail.database, alice.id)
    places = await search_frames.frames_of(mail.database, alice.id, 0, search_text.EVERYTHING)
    assert sum(place.dead for place in places) == 0


async def test_small_frames_are_joined(mail: Mail, alice: Account) -> None:
    for number in range(60):
        await deliver(mail, alice, raw(f"n{number}", "body"))
        assert await mail.indexer.catch_up(alice.id, 10)
    await check(mail.database, alice.id)
    places = await search_frames.frames_of(mail.database, alice.id, 0, search_text.EVERYTHING)
    assert len(places) < 12


async def test_old_mail_is_read_by_the_sweep(mail: Mail, alice: Account, bob: Account) -> None:
    await deliver(mail, alice, *(raw(f"n{number}", f"old{number}") for number in range(120)))
    await deliver(mail, bob, raw("to bob", "old7"))
    # as after an upgrade, or when the change log was trimmed before anybody followed it
    await mail.database.execute("DELETE FROM change")
    await mail.database.execute("UPDATE account SET low_water_mark = modseq")
    assert await mail.indexer.sweep_once(OWNER) == 2
    assert await mail.indexer.sweep_once(OWNER) == 0
    for account in (alice, bob):
        assert len(await found(mail, account, Place.BODY, "old7")) == (
            11 if account == alice else 1
        )
    assert await mail.indexer.sweep_once("another process") == 0


async def test_what_a_query_cannot_wait_for_is_named(mail: Mail, alice: Account) -> None:
    ids = await deliver(mail, alice, *(raw("n", f"body{number}") for number in range(300)))
    [hits] = await text_index.find(mail, alice.id, [Contains(Place.BODY, ("body299",))])
    assert hits.unread
    assert hits.unread < set(ids)
    assert hits.unread | hits.ids >= {ids[299]}


async def test_a_killed_indexer_leaves_nothing_out(
    mail: Mail, alice: Account, dsn: str, bucket: Bucketed, config: Config
) -> None:
    await deliver(mail, alice, *(raw(f"n{number}", f"word{number}") for number in range(200)))
    box = await inbox(mail, alice)
    others = [
        make_mail(Database(lambda: dsn, size=4), bucket.blobs, config, node=node)
        for node in range(2, 10)
    ]
    for turn, other in enumerate(others):
        work = asyncio.create_task(other.indexer.catch_up(alice.id, 1000))
        beside = asyncio.create_task(mail.indexer.catch_up(alice.id, 7))
        while not work.done() and await _statements(mail.database, alice.id) <= turn * 20:
            await asyncio.sleep(0)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await work
        with contextlib.suppress(Exception):
            await beside
        await other.database.close()
        other.passwords.close()
        uids = (await uids_of(mail, alice, box))[turn : turn + 2]
        await destroy(mail, alice, box, uids)
    while not await mail.indexer.catch_up(alice.id, 50):
        pass
    await check(mail.database, alice.id)
    assert len(await found(mail, alice, Place.BODY, "word199")) == 1


async def _statements(database: Database, account: AccountId) -> int:
    count: int = await database.fetchval(
        "SELECT count(*) FROM search_word WHERE account_id = $1", account
    )
    return count


def _nothing(read: int, count: int) -> None:
    pass


async def _matching(mail: Mail, account: Account, ids: Sequence[int], text: str) -> set[int]:
    return await search_bodies.matching(
        mail, account.id, [(each, 100) for each in ids], text, everywhere=False, advance=_nothing
    ) & set(ids)


async def test_what_another_process_adds_meanwhile_keeps_nothing_out(
    mail: Mail, alice: Account
) -> None:
    await deliver(mail, alice, raw("zero", "zero"))
    assert await mail.indexer.catch_up(alice.id, 10)
    ids = await deliver(mail, alice, *(raw(f"n{each}", f"word{each}") for each in range(5)))
    async with mail.database.transaction() as other:
        await search_text.lock(other, alice.id)
        work = asyncio.create_task(mail.indexer.catch_up(alice.id, 10))
        await _somebody_waits(mail.database)
        await search_text.insert_words(other, alice.id, [(ids[1], "")])
    assert await work
    assert await search_text.indexed(mail.database, alice.id, ids) == set(ids)
    assert await found(mail, alice, Place.BODY, "word4") == {ids[4]}


async def test_what_is_destroyed_while_it_is_read_leaves_no_text(
    mail: Mail, alice: Account
) -> None:
    await deliver(mail, alice, raw("zero", "zero"))
    assert await mail.indexer.catch_up(alice.id, 10)
    ids = await deliver(mail, alice, *(raw(f"n{each}", f"word{each}") for each in range(5)))
    box = await inbox(mail, alice)
    uids = await uids_of(mail, alice, box)
    async with mail.database.transaction() as other:
        await search_text.lock(other, alice.id)
        work = asyncio.create_task(mail.indexer.catch_up(alice.id, 10))
        await _somebody_waits(mail.database)  # all is read
        await destroy(mail, alice, box, uids[-2:])
    assert await work
    assert await search_text.indexed(mail.database, alice.id, ids) == set(ids[:3])
    await mail.indexer.catch_up(alice.id, 10)
    await check(mail.database, alice.id)


async def test_what_is_destroyed_while_frames_are_joined_is_counted(
    mail: Mail, alice: Account
) -> None:
    ids = [(await deliver(mail, alice, raw(f"n{n}", f"word{n}")))[0] for n in range(2)]
    assert await mail.indexer.catch_up(alice.id, 10)
    places = await search_frames.frames_of(mail.database, alice.id, 0, search_text.EVERYTHING)
    [(frame, dead)] = [(each.id, each.dead) for each in places if ids[0] in each.email_ids]
    async with mail.database.transaction() as tx:
        await search_frames.count_dead(tx, alice.id, [(frame, 1)])  # by another, after it was read
        assert await search_frames.remove_frames(tx, alice.id, [(frame, dead)]) == 0
        assert await search_frames.remove_frames(tx, alice.id, [(frame, dead + 1)]) == 1
        await tx.execute("DELETE FROM search_word")
        await tx.execute("DELETE FROM search_frame")
        await tx.execute("DELETE FROM search_progress")


async def _somebody_waits(database: Database) -> None:
    """Return when a statement waits for a lock."""
    async with asyncio.timeout(60):
        while not await database.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock')"
        ):
            await asyncio.sleep(0)


async def test_stored_texts_are_searched_without_bodies(
    mail: Mail, alice: Account, dsn: str, bucket: Bucketed, config: Config
) -> None:
    ids = await deliver(mail, alice, *(raw("s", f"text no{n}x") for n in range(130)))
    assert await mail.indexer.catch_up(alice.id, 1000)
    await mail.database.execute("CREATE TABLE kept AS SELECT * FROM blob_hot")
    await mail.database.execute("DELETE FROM blob_hot")
    try:
        assert await _matching(mail, alice, ids, "O77X") == {ids[77]}
        assert await _matching(mail, alice, ids, "text no") == set(ids)
        assert mail.search_bodies.size > 0
    finally:
        await mail.database.execute("INSERT INTO blob_hot SELECT * FROM kept")


PARTS = (
    "Zürich", "ZÜRICH office", "new york", "New\nYork", "a-b.c", "x", "straße", "STRASSE", "東京都",
    "ﬁne", "<b>bo</b>ld", "&amp;", "--", "ann@example.test", "50 %", "news york", "\u0345i",
)  # fmt: skip
NEEDLES = (
    "zürich", "rich", "new york", "new\nyork", "w y", "-", "a-b.c", "b.c", "x", "strasse", "straße",
    "京", "fine", "bold", "bo ld", "&", "--", "ann@example", "50 %", "%", "absent", "subject: n",
)  # fmt: skip


def _any_message(dice: random.Random, number: int) -> bytes:
    text = " ".join(dice.choices(PARTS, k=dice.randrange(8)))
    charset = dice.choice(("utf-8", "utf-16", "iso-2022-jp", "utf-7"))
    octets = text.encode(charset, "ignore")
    encoding = dice.choice(("base64", "quoted-printable"))
    body = base64.encodebytes(octets) if encoding == "base64" else quopri.encodestring(octets)
    more = f"Content-Type: text/{dice.choice(('plain', 'html'))}; charset={charset}\n"
    more += f"Content-Transfer-Encoding: {encoding}\n"
    subject = dice.choice(("n", "=?utf-8?q?Z=C3=BCrich?=", f"x {number}"))
    return raw(subject, body.decode("ascii"), more)


async def test_what_is_found_is_the_same_before_and_after_the_index_is_made(
    mail: Mail, alice: Account
) -> None:
    dice = random.Random(11)
    texts = [_any_message(dice, number) for number in range(150)]
    ids = await deliver(mail, alice, *texts)
    plain = [
        making.whole_texts(Given(email_id, octets, False))
        for email_id, octets in zip(ids, texts, strict=True)
    ]
    candidates = [(each, 10**6) for each in ids]  # several pieces

    async def check_all() -> None:
        for needle in NEEDLES:
            wanted = frames.compared(needle)
            for everywhere in (False, True):
                expected = {
                    each.email_id
                    for each in plain
                    if wanted in each.body
                    or (everywhere and (wanted in each.names or wanted in each.header))
                }
                found = await search_bodies.matching(
                    mail, alice.id, candidates, needle, everywhere=everywhere, advance=_nothing
                )
                assert found & set(ids) == expected, (needle, everywhere)

    await check_all()  # first made, then from memory
    for _ in range(2):
        await mail.indexer.catch_up(alice.id, 40)
        await check_all()
        mail.search_vocabularies = SearchVocabularies()
        mail.search_bodies = search_bodies.SearchBodies()
        await check_all()
    while not await mail.indexer.catch_up(alice.id, 40):
        pass
    mail.search_vocabularies = SearchVocabularies()
    mail.search_bodies = search_bodies.SearchBodies()
    await check_all()


class Noting(Threads):
    """Notes for whom somebody waits."""

    def __init__(self) -> None:
        self.awaited: list[bool] = []

    async def index(self, given: Sequence[Given], *, awaited: bool) -> Made:
        self.awaited.append(awaited)
        return await super().index(given, awaited=awaited)


async def test_only_what_a_query_waits_for_is_made_in_a_hurry(mail: Mail, alice: Account) -> None:
    makers = mail.indexer.makers = Noting()
    await deliver(mail, alice, raw("a", "first"))
    assert await mail.indexer.catch_up(alice.id, 10)
    await deliver(mail, alice, raw("a", "second"))
    assert len(await found(mail, alice, Place.BODY, "second")) == 1
    await deliver(mail, alice, raw("a", "third"))
    assert await mail.indexer.catch_up(alice.id, 10)
    assert makers.awaited == [False, True, False]


# a process that ends at a certain message, as one with a fault in a library would
FRAIL = """
import os, sys
from mailserver.app import search_maker
sound = search_maker.answer
def frail(kind, messages):
    if any(b"poison" in data for _, data, _ in messages):
        os._exit(1)
    return sound(kind, messages)
search_maker.answer = frail
sys.exit(search_maker.main(int(sys.argv[1])))
"""


async def test_a_message_that_ends_the_process_keeps_nothing_else_out(
    mail: Mail, alice: Account
) -> None:
    processes = mail.indexer.makers = SearchProcesses([sys.executable, "-c", FRAIL])
    bodies = [f"word{n}" for n in range(FEW + 5)]
    bodies[3] = "poison"
    ids = await deliver(mail, alice, *(raw("s", body) for body in bodies))
    try:
        with pytest.raises(Unavailable) as failure:
            await _matching(mail, alice, ids, "word7")
        assert type(failure.value) is Unavailable  # by the type protocols know what to say
        assert await mail.indexer.catch_up(alice.id, 1000)
    finally:
        await processes.close()
    assert await found(mail, alice, Place.BODY, "word7") == {ids[7]}
    assert await found(mail, alice, Place.BODY, "poison") == set()
    assert await found(mail, alice, Place.TEXT, "ann@example.test") == {*ids} - {ids[3]}
    assert await _matching(mail, alice, ids, "poison") == {ids[3]}


async def test_words_answer_without_texts(mail: Mail, alice: Account) -> None:
    ids = await deliver(mail, alice, *(raw("s", f"text no{n}x\nof {n}") for n in range(130)))
    assert await mail.indexer.catch_up(alice.id, 1000)
    await mail.database.execute("CREATE TABLE kept_frame AS SELECT * FROM search_frame")
    await mail.database.execute("UPDATE search_frame SET data = ''")
    try:
        for _ in range(2):  # from the store, then from memory
            assert await _matching(mail, alice, ids, "o77X") == {ids[77]}
            assert await _matching(mail, alice, ids, "text") == set(ids)
            assert await _matching(mail, alice, ids, "no such") == set()
        assert mail.search_bodies.size == SHELF_SIZE
    finally:
        await mail.database.execute(
            "UPDATE search_frame SET data = kept_frame.data FROM kept_frame"
            " WHERE search_frame.id = kept_frame.id"
        )
    assert await _matching(mail, alice, ids, "x\nof 1") == {
        ids[n] for n in range(130) if str(n).startswith("1")
    }
    assert mail.search_bodies.size > SHELF_SIZE


async def test_frames_without_words_are_searched_and_completed(
    mail: Mail, alice: Account, bob: Account
) -> None:
    ids = await deliver(mail, alice, *(raw("s", f"text no{n}x") for n in range(130)))
    other = await deliver(mail, bob, raw("s", "text no7x"))
    for account in (alice, bob):
        assert await mail.indexer.catch_up(account.id, 1000)
    await mail.database.execute("UPDATE search_frame SET vocabulary = NULL")
    assert await _matching(mail, alice, ids, "o77X") == {ids[77]}
    await mail.indexer.sweep_once(OWNER)
    assert await search_frames.accounts_without_vocabulary(mail.database, 10) == []
    for account in (alice, bob):
        await check(mail.database, account.id)
    assert await _matching(mail, alice, ids, "o77X") == {ids[77]}
    assert await _matching(mail, bob, other, "o7X") == set(other)
    assert mail.search_vocabularies.size > 2 * SHELF_SIZE


async def test_a_text_that_is_too_long_to_store_is_searched_whole(
    mail: Mail, alice: Account
) -> None:
    long = "\n".join(f"line {number} of a long text" for number in range(20_000))
    ids = await deliver(mail, alice, raw("long", long + "\nthe last wörd"), raw("short", "word"))
    assert await mail.indexer.catch_up(alice.id, 1000)
    places = await search_frames.frames_of(mail.database, alice.id, 0, search_text.EVERYTHING)
    assert [each for place in places for each in place.cut_ids] == [ids[0]]
    assert await _matching(mail, alice, ids, "the last WÖRD") == {ids[0]}
    assert await _matching(mail, alice, ids, "line 7 of") == {ids[0]}
    assert await _matching(mail, alice, ids, "word") == {ids[1]}


async def test_changes_of_flags_do_not_make_it_read_the_log_again_and_again(
    mail: Mail, alice: Account
) -> None:
    await deliver(mail, alice, raw("a", "b"))
    assert await mail.indexer.catch_up(alice.id, 10)
    before = await search_text.progress(mail.database, alice.id)
    await mail.database.execute("UPDATE account SET modseq = modseq + 1000")
    assert await mail.indexer.catch_up(alice.id, 10)
    after = await search_text.progress(mail.database, alice.id)
    assert before
    assert after
    assert after.modseq == after.account_modseq > before.modseq


HOSTILE = (
    b"\0\xff\xfe",
    b'=?utf-8?q?=00=ED=A0=80?= <a\0b@c>, "\'\\\\"@x',
    "東京都に住む \U0001f389 שָׁלוֹם हिन्दी 한국어 \ufdfa".encode(),
    "\ufdfa".encode() * 20_000,
    b"'\\:*&|!()<-> " * 100,
    b"+AAA-+2D8- =ED=A0=80",
    b"x" * 5000,
)


async def test_hostile_messages_do_not_stop_the_index(mail: Mail, alice: Account) -> None:
    dice = random.Random(7)
    texts = []
    for number in range(60):
        charset = dice.choice(("utf-8", "utf-7", "utf-16", "latin-1", "gb18030", "x-none"))
        encoding = dice.choice(("8bit", "quoted-printable", "base64"))
        header = (
            b"From: %b\r\nSubject: %b\r\nX-%b: y\r\nContent-Type: text/%b; charset=%b\r\n"
            b"Content-Transfer-Encoding: %b\r\n"
        ) % (
            dice.choice(HOSTILE)[:900],
            dice.choice(HOSTILE)[:900],
            dice.choice(HOSTILE)[:20],
            dice.choice((b"plain", b"html")),
            charset.encode(),
            encoding.encode(),
        )
        body = b"\n".join(dice.choices(HOSTILE, k=4))
        texts.append(header + b"\r\n" + body + b" tail%d" % number)
    words = " ".join(f"w{number:x}é" for number in range(120_000)).encode()
    texts.append(b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + words)
    ids = await deliver(mail, alice, *texts)
    assert await mail.indexer.catch_up(alice.id, 1000)
    await check(mail.database, alice.id)
    for query in ("'", "\\", "a:*", "!", "東京", "w1é", "' | 'x"):
        await found(mail, alice, Place.TEXT, query)
    assert await found(mail, alice, Place.BODY, "w1ffé") == {ids[-1]}


@pytest.mark.parametrize(
    ("breach", "rule"),
    [
        ("DELETE FROM search_word", "every email is in the index of words, or still to do"),
        (
            "INSERT INTO search_word (account_id, email_id, words)"
            " SELECT account_id, 7, words FROM search_word LIMIT 1",
            "emails in the index of words exist, or their going is still to be noted",
        ),
        (
            "DELETE FROM search_frame",
            "every email in the index of words has its texts once, unless it cannot be read",
        ),
    ],
)
async def test_fsck_finds_what_is_wrong(mail: Mail, alice: Account, breach: str, rule: str) -> None:
    await deliver(mail, alice, raw("a", "b"), raw("c", "d"))
    assert [each async for each in fsck.check(mail)] == []
    assert await mail.indexer.catch_up(alice.id, 10)
    assert [each async for each in fsck.check(mail)] == []
    await mail.database.execute(breach)
    assert rule in {each.rule async for each in fsck.check(mail)}
    await mail.database.execute("DELETE FROM search_word")
    await mail.database.execute("DELETE FROM search_frame")
    await mail.database.execute("DELETE FROM search_progress")


async def test_common_words_are_found_from_the_newest_message_on(
    mail: Mail, alice: Account
) -> None:
    await deliver(mail, alice, *(raw(f"n{n // 4}", f"common w{n % 3}") for n in range(60)))
    box = await inbox(mail, alice)
    words = Contains(Place.BODY, ("common", "w1"))
    [found] = await text_index.find(mail, alice.id, [words])
    hits: dict[Criterion, Hits] = {words: found}
    for where, only in ((All((InMailbox(box), words)), box), (words, None)):
        for position, limit in ((0, 5), (3, 7), (0, 500), (100, 5)):
            for threads in (False, True):
                query = Query(where, (), Window(position, limit=limit), collapse_threads=threads)
                scanned = await search.query(mail, alice.id, query)
                walked = await common_words.newest(mail, alice.id, query, only, hits, many=1)
                assert walked is not None
                assert walked.ids == scanned.ids
                assert await common_words.newest(mail, alice.id, query, only, hits) is None
