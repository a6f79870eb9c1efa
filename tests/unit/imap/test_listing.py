"""LIST with options: what is read, and what is chosen."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol import mailboxes
from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.listing import (
    MAX_PATTERNS,
    List,
    Match,
    Return,
    Selection,
    choose,
    parse_list,
)
from mailserver.imap.protocol.mailboxes import Create, StatusItem, matcher, parse_create
from mailserver.model import ALL_RIGHTS, AccountId, Mailbox, MailboxId, Modseq, Place, Role


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (b' "" %/a*]', List("", ("%/a*]",))),
        (b' "" ""', List("", ("",))),
        (b' () a ""', List("a", ("",), True)),
        (b' "" a&b%', List("", ())),  # not modified UTF-7, so it matches no name
        (b' "" (a&b c)', List("", ("c",), True)),
        (b' "" (a "b c")', List("", ("a", "b c"), True)),
        (
            b' (recursivematch REMOTE SUBSCRIBED) "" *',
            List(
                "",
                ("*",),
                True,
                frozenset({Selection.RECURSIVEMATCH, Selection.REMOTE, Selection.SUBSCRIBED}),
            ),
        ),
        (
            b' "" * return (Status (messages Size messages) special-use)',
            List(
                "",
                ("*",),
                True,
                returns=frozenset({Return.SPECIAL_USE}),
                status=(StatusItem.MESSAGES, StatusItem.SIZE),
            ),
        ),
    ],
)
def test_list_is_read(text: bytes, command: List) -> None:
    assert parse_list(Cursor((text,))) == command
    assert command.asks_for_root == (text == b' "" ""')


@pytest.mark.parametrize(
    "text",
    [
        b' "" ()',
        b' (RECURSIVEMATCH SPECIAL-USE) "" *',
        b' (SUBSCRIBED "" *',
        b' "" * RETURN',
        b' "" * RETURN (STATUS)',
        b' "" * RETURN (STATUS (MESSAGES)',
        b' "" * RETURN (STATUS (NONSENSE))',
        b' "" * OTHER (CHILDREN)',
        b' "" (' + b"* " * MAX_PATTERNS + b"*)",
    ],
)
def test_what_list_is_not(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_list(Cursor((text,)))


def test_create_is_read() -> None:
    assert parse_create(Cursor((b" a/ (USE (\\Sent \\All \\Sent))",))) == Create(
        "a", ("\\Sent", "\\All")
    )
    assert parse_create(Cursor((b" a (USE ())",))) == Create("a")
    for text in (
        b" a ()",
        b" a (USE)",
        b" a (USE \\Sent)",
        b" a (X (\\Sent))",
        b" a (USE (\\Sent)",
    ):
        with pytest.raises(ProtocolError):
            parse_create(Cursor((text,)))


def _tree(subscribed: set[str], special: set[str]) -> list[Place]:
    """A mailbox for every path of up to three levels over two names."""
    paths = [
        "/".join(parts) for depth in (1, 2, 3) for parts in itertools.product("ab", repeat=depth)
    ]
    ids = {path: MailboxId(number) for number, path in enumerate(sorted(paths), 1)}
    found = [
        Mailbox(
            id=ids[path],
            parent_id=ids.get(path.rpartition("/")[0]),
            name=path[-1],
            path=path,
            role=Role.SENT if path in special else None,
            subscribed=path in subscribed,
            sort_order=0,
            uidvalidity=1,
            uidnext=1,
            recent_uid=1,
            modseq=Modseq(1),
            total=0,
            unseen=0,
            deleted=0,
            size=0,
        )
        for path in sorted(paths)
    ]
    return [
        Place(AccountId(1), each, each.path, ALL_RIGHTS, each.subscribed, each.role)
        for each in found
    ]


def _is_above_one_of(path: str, others: Iterable[str]) -> bool:
    """Whether one of the others is this path or below it."""
    return any(f"{other}/".startswith(f"{path}/") for other in others)


PATHS = [place.path for place in _tree(set(), set())]
PATTERNS = st.sampled_from(["*", "%", "a", "a/%", "%/b", "*b", "a*", "%/%", "", "x"])


@given(
    st.sets(st.sampled_from(PATHS)),
    st.sets(st.sampled_from(PATHS)),
    st.lists(PATTERNS, min_size=1, max_size=3),
    st.frozensets(st.sampled_from(Selection)),
    st.sets(st.sampled_from(PATHS)),
    st.sets(st.sampled_from(PATHS)),
)
def test_what_is_chosen_is_what_the_rules_say(
    subscribed: set[str],
    special: set[str],
    patterns: list[str],
    selection: frozenset[Selection],
    hidden: set[str],
    left: set[str],
) -> None:
    there = {place.path: place for place in _tree(subscribed, special) if place.path not in hidden}
    only_names = set() if Selection.SPECIAL_USE in selection else left - set(there)
    real = [path for path in PATHS if _is_above_one_of(path, there)]
    names = real + [
        path for path in PATHS if path not in real and _is_above_one_of(path, only_names)
    ]

    def selected(path: str) -> bool:
        return path in only_names or (
            (Selection.SUBSCRIBED not in selection or (path in there and path in subscribed))
            and (Selection.SPECIAL_USE not in selection or (path in there and path in special))
        )

    def matched(path: str) -> bool:
        return any(pattern and matcher(pattern)(path) for pattern in patterns)

    wanted = []
    for path in names:
        below = [other for other in names if other.startswith(path + "/")]
        child_info = Selection.RECURSIVEMATCH in selection and any(
            selected(other) and not matched(other) for other in below
        )
        if matched(path) and (selected(path) or child_info):
            place = there.get(path)
            has_children = not set(below).isdisjoint(real)
            wanted.append(
                Match(path, place, selected(path), child_info, has_children, path in only_names)
            )
    command = List("", tuple(patterns), True, selection)
    assert choose(command, there.values(), sorted(left)) == wanted


def test_subscribed_names_of_no_mailbox_come_last() -> None:
    def chosen(selection: frozenset[Selection]) -> list[Match]:
        command = List("", ("*",), True, selection)
        return choose(command, [], ["b/a", "a"])

    assert chosen(frozenset({Selection.SUBSCRIBED})) == [
        Match("b/a", None, True, False, False, True),
        Match("a", None, True, False, False, True),
    ]
    assert chosen(frozenset({Selection.SUBSCRIBED, Selection.SPECIAL_USE})) == []


@given(st.text("ab/*%", max_size=6), st.text("ab/", max_size=8))
def test_short_cuts_mean_what_the_automaton_says(pattern: str, name: str) -> None:
    assert matcher(pattern)(name) == mailboxes._automaton(pattern)(name)


@pytest.mark.parametrize("pattern", ["*", "%", "a/b"])
@pytest.mark.parametrize("name", ["a", "a/b", "a/b/c", ""])
def test_short_cuts(pattern: str, name: str) -> None:
    assert matcher(pattern)(name) == mailboxes._automaton(pattern)(name)


def test_patterns_are_compared_as_names_are_kept() -> None:
    assert matcher("a\u0308%")("\u00e4b")
    assert matcher("inbox/%")("INBOX/x")
    assert not matcher("\u0131nbox")("INBOX")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (b' "" *', True),
        (b' (REMOTE) "" * RETURN (CHILDREN SUBSCRIBED)', True),
        (b' (SUBSCRIBED) "" *', False),
        (b' "" * RETURN (STATUS (UIDNEXT))', False),
        (b' "" * RETURN (MYRIGHTS)', False),
        (b' "" * RETURN (METADATA ("/private/comment"))', False),
    ],
)
def test_what_the_mailboxes_alone_answer(text: bytes, plain: bool) -> None:
    assert parse_list(Cursor((text,))).is_plain is plain
