"""What extensions add to commands, as it is read and written."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.commands import COMMANDS
from mailserver.imap.protocol import fetch as fetch_wire
from mailserver.imap.protocol.connection import Bare, Enable, chosen_language
from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.fetch import Attribute, Binary, Fetch, Section
from mailserver.imap.protocol.listing import List, Return, Selection, parse_list
from mailserver.imap.protocol.mailboxes import StatusItem
from mailserver.imap.protocol.modseq import MAX_MODSEQ
from mailserver.imap.protocol.partial import Partial
from mailserver.imap.protocol.responses import mailbox_id
from mailserver.imap.protocol.search import Returns, Search, Wanted, mentions, modseq_shown
from mailserver.imap.protocol.search_keys import Everything, Modified
from mailserver.imap.protocol.select import Resync, Select
from mailserver.imap.protocol.sequences import SAVED, SequenceSet
from mailserver.imap.protocol.store import Store
from mailserver.imap.protocol.view import View
from mailserver.model import SEEN, FlagChange, Flags, IdKind, MailboxId, id_text

ONE = SequenceSet(((1, 1),))
UNCHANGED = b"STORE 1 (UNCHANGEDSINCE %d) FLAGS (\\Seen)"


def _parse(line: bytes) -> object:
    cursor = Cursor((line,))
    name = cursor.word()
    if name == b"UID":
        cursor.space()
        name += b" " + cursor.word()
    return COMMANDS[name].parse(cursor)


GOOD = [
    (b"SELECT x (CONDSTORE)", Select("x", condstore=True)),
    (b"EXAMINE x (QRESYNC (7 20))", Select("x", resync=Resync(7, 20))),
    (
        b"SELECT x (QRESYNC (7 20 1:2,5) CONDSTORE)",
        Select("x", True, Resync(7, 20, SequenceSet(((1, 2), (5, 5))))),
    ),
    (
        b"SELECT x (QRESYNC (7 20 (1 1)))",
        Select("x", resync=Resync(7, 20, None, (ONE, ONE))),
    ),
    (
        b"SELECT x (QRESYNC (7 20 1 (1 1)))",
        Select("x", resync=Resync(7, 20, ONE, (ONE, ONE))),
    ),
    (
        UNCHANGED % MAX_MODSEQ,
        Store(ONE, False, FlagChange.REPLACE, Flags(SEEN), False, MAX_MODSEQ),
    ),
    (b"FETCH 1 FLAGS (CHANGEDSINCE 0)", Fetch(ONE, False, (Attribute.FLAGS, Attribute.MODSEQ), 0)),
    (
        b"UID FETCH $ (UID) (PARTIAL -9:-2 CHANGEDSINCE 5 VANISHED)",
        Fetch(SAVED, True, (Attribute.UID, Attribute.MODSEQ), 5, True, Partial(2, 9, True)),
    ),
    (
        b"FETCH 1 (BINARY[1.2]<3.4> BINARY.PEEK[] BINARY.SIZE[2])",
        Fetch(
            ONE,
            False,
            (
                Binary(b"BINARY[1.2]<3>", "1.2", 3, 4, True, False),
                Binary(b"BINARY[]", "", None, 0, False, False),
                Binary(b"BINARY.SIZE[2]", "2", None, 0, False, True),
            ),
        ),
    ),
    (b"FETCH 1 (PREVIEW (LAZY LAZY) UID)", Fetch(ONE, False, (Attribute.PREVIEW, Attribute.UID))),
    (b"SEARCH MODSEQ 3", Search(Modified(3), by_uid=False)),
    (b'SEARCH MODSEQ "/FLAGS/\\\\draft" priv 3', Search(Modified(3), by_uid=False)),
    (b"COMPRESS deflate", Bare()),
    (b"ENABLE QRESYNC uidonly", Enable((b"QRESYNC", b"UIDONLY"))),
    (
        b'LIST (SUBSCRIBED) "" % RETURN (CHILDREN STATUS (SIZE MAILBOXID) METADATA (/shared/a))',
        List(
            "",
            ("%",),
            extended=True,
            selection=frozenset({Selection.SUBSCRIBED}),
            returns=frozenset({Return.CHILDREN}),
            status=(StatusItem.SIZE, StatusItem.MAILBOXID),
            metadata=("/shared/a",),
        ),
    ),
]

BAD = [
    b"SELECT x (CONDSTORE",
    b"SELECT x (NONSENSE)",
    b"SELECT x (1)",
    b"SELECT x (QRESYNC (7 20) QRESYNC (7 20))",
    b"SELECT x (QRESYNC (7 0))",
    b"SELECT x (QRESYNC (7))",
    b"SELECT x (QRESYNC (7 20 1:*))",
    b"SELECT x (QRESYNC (7 20 $))",
    b"SELECT x (QRESYNC (7 20 1 (1)))",
    b"SELECT x (QRESYNC (7 20 1 (1 1))",
    UNCHANGED % (MAX_MODSEQ + 1),
    b"STORE 1 (UNCHANGEDSINCE -1) FLAGS ()",
    b"STORE 1 (UNCHANGEDSINCE 5)FLAGS ()",
    b"STORE 1 (UNCHANGEDSINCE) FLAGS ()",
    b"FETCH 1 FLAGS (CHANGEDSINCE)",
    b"FETCH 1 FLAGS (VANISHED)",
    b"UID FETCH 1 FLAGS (VANISHED)",
    b"UID FETCH 1 FLAGS (PARTIAL 1:-2)",
    b"FETCH 1 FLAGS (PARTIAL 1:2)",
    b"FETCH 1 BINARY[1.MIME]",
    b"FETCH 1 BINARY[1]<1.0>",
    b"FETCH 1 BINARY.SIZE[1]<1.2>",
    b"FETCH 1 BINARY",
    b"FETCH 1 (PREVIEW (EAGER))",
    b'SEARCH MODSEQ "/other/x" all 3',
    b'SEARCH MODSEQ "/flags/x" none 3',
    b"SEARCH MODSEQ",
    b"COMPRESS LZ4",
    b"LANGUAGE " + b" ".join([b"en"] * 200),
    b"SEARCH RETURN (NONSENSE) ALL",
    b"APPEND x CATENATE (NONSENSE a)",
    b"APPEND x CATENATE (" + b" ".join([b"URL a"] * 1001) + b")",
    b"APPEND x" + 2 * (b" CATENATE (" + b" ".join([b"URL a"] * 501) + b")"),
    b"REPLACE 1:2 x {1+}",
    b"REPLACE $ x {1+}",
    b'LIST (NONSENSE) "" %',
    b'LIST "" % RETURN (NONSENSE)',
]


@pytest.mark.parametrize(("line", "command"), GOOD)
def test_good(line: bytes, command: object) -> None:
    assert _parse(line) == command


@pytest.mark.parametrize("line", BAD, ids=lambda line: line[:40])
def test_bad(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        _parse(line)


_BINARIES = st.builds(
    lambda part, offset, sets_seen, size_only: Binary(
        b"%b[%b]%b"
        % (
            b"BINARY.SIZE" if size_only else b"BINARY",
            part.encode(),
            b"" if offset is None or size_only else b"<%d>" % offset,
        ),
        part,
        None if size_only else offset,
        0 if offset is None or size_only else 7,
        sets_seen and not size_only,
        size_only,
    ),
    st.sampled_from(["", "1", "2.3"]),
    st.none() | st.integers(0, 2**32),
    st.booleans(),
    st.booleans(),
)


@given(
    st.lists(st.sampled_from(Attribute) | _BINARIES, min_size=1, max_size=5, unique=True),
    st.none() | st.integers(0, MAX_MODSEQ),
    st.booleans(),
    st.none() | st.builds(Partial, st.just(2), st.integers(2, 99), st.booleans()),
)
def test_modifiers_are_read_as_they_are_written(
    items: list[fetch_wire.Item], since: int | None, vanished: bool, partial: Partial | None
) -> None:
    unique = dict.fromkeys(items)
    if since is not None:
        unique.pop(Attribute.MODSEQ, None)
        unique[Attribute.MODSEQ] = None
    command = Fetch(ONE, True, tuple(unique), since, vanished and since is not None, partial)
    assert fetch_wire.parse_uid_fetch(Cursor((fetch_wire.render(command),))) == command


def test_which_keys_are_mentioned() -> None:
    found = _parse(b"SEARCH OR SEEN NOT (MODSEQ 3 DRAFT)")
    assert isinstance(found, Search)
    assert mentions(found.key, Modified)
    assert not mentions(found.key, Everything)


def test_a_saved_result_is_written_and_resolved() -> None:
    assert SAVED.render() == b"$"
    view = View(array("q", [2, 4, 6, 8]), 1)
    assert view.positions(SAVED, by_uid=False) == []
    view.saved = [4, 5, 6]
    assert view.positions(SAVED, by_uid=True) == [range(1, 3)]


@pytest.mark.parametrize(
    ("ranges", "language"),
    [
        ((b"de", b"en-GB"), b"EN"),
        ((b"I-Default",), b"i-default"),
        ((b"de", b"fr"), None),
        ((), None),
    ],
)
def test_the_first_language_that_matches(ranges: tuple[bytes, ...], language: bytes | None) -> None:
    assert chosen_language(ranges) == language


def test_what_has_to_be_opened() -> None:
    sizes, octets = _items(b"BINARY.SIZE[1]"), _items(b"(BINARY.PEEK[1] BODY[1])")
    header = _items(b"BODY[HEADER]")
    assert [item.needs_octets for item in (*sizes, *octets, *header)] == [False, True, True, False]


def _items(text: bytes) -> list[Binary | Section]:
    command = fetch_wire.parse_fetch(Cursor((b" 1 " + text,)))
    return [item for item in command.items if not isinstance(item, Attribute)]


def test_subscriptions_are_told_to_whoever_selects_or_asks_for_them() -> None:
    for text in (b' (SUBSCRIBED) "" %', b' "" % RETURN (SUBSCRIBED)'):
        assert parse_list(Cursor((text,))).shows_subscribed
    assert not parse_list(Cursor((b' "" %',))).shows_subscribed


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (Wanted.ALL, 9),
        (Wanted.MIN, 5),
        (Wanted.MAX | Wanted.SAVE, 7),
        (Wanted.MIN | Wanted.MAX, 7),
        (Wanted.MIN | Wanted.COUNT, 9),
    ],
)
def test_the_mod_sequence_of_a_result(wanted: Wanted, shown: int) -> None:
    assert modseq_shown(Returns(wanted), [5, 9, 7]) == shown


def test_ids_of_mailboxes() -> None:
    shown = id_text(IdKind.MAILBOX, 5).encode()
    assert mailbox_id(MailboxId(5)) == b"MAILBOXID (" + shown + b")"
