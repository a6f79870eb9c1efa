"""Filters that name several mailboxes, and ESEARCH, which has them."""

import pytest

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.filters import OF_SELECTED, Filter, Scope
from mailserver.imap.protocol.multisearch import MultiSearch, correlator, parse_esearch
from mailserver.imap.protocol.search import Returns, Search, Wanted
from mailserver.imap.protocol.search_keys import HasFlag
from mailserver.model import (
    ALL_RIGHTS,
    SEEN,
    AccountId,
    Mailbox,
    MailboxId,
    Modseq,
    Place,
    Role,
)

SEEN_ONES = Search(HasFlag(SEEN), by_uid=True)


ME, OTHER = AccountId(1), AccountId(2)


def _place(
    path: str, *, role: Role | None = None, subscribed: bool = False, account: AccountId = ME
) -> Place:
    mailbox = Mailbox(
        id=MailboxId(1),
        parent_id=None,
        name=path.rpartition("/")[2],
        path=path,
        role=role,
        subscribed=subscribed,
        sort_order=0,
        uidvalidity=503,
        uidnext=1,
        recent_uid=1,
        modseq=Modseq(1),
        total=0,
        unseen=0,
        deleted=0,
        size=0,
    )
    return Place(account, mailbox, path, ALL_RIGHTS, subscribed, role)


@pytest.mark.parametrize(
    ("chosen", "yes", "no"),
    [
        (Filter(Scope.MAILBOXES, ("a", "b/c")), ["a", "b/c"], ["a/b", "b", "ab"]),
        (Filter(Scope.SUBTREE, ("a",)), ["a", "a/b", "a/b/c"], ["ab", "b/a", "b"]),
        (Filter(Scope.SUBTREE_ONE, ("x", "a")), ["a", "a/b"], ["a/b/c", "ab/c"]),
        (Filter(Scope.PERSONAL), ["a", "INBOX"], []),
        (Filter(Scope.SELECTED), [], ["a"]),
        (Filter(Scope.SELECTED_DELAYED), [], ["a"]),
    ],
)
def test_names(chosen: Filter, yes: list[str], no: list[str]) -> None:
    assert [path for path in yes + no if chosen.matches(_place(path), ME)] == yes


def test_properties() -> None:
    assert Filter(Scope.INBOXES).matches(_place("INBOX", role=Role.INBOX), ME)
    assert not Filter(Scope.INBOXES).matches(_place("INBOX/a"), ME)
    assert Filter(Scope.SUBSCRIBED).matches(_place("a", subscribed=True), ME)
    assert not Filter(Scope.SUBSCRIBED).matches(_place("a"), ME)
    assert Filter(Scope.SUBSCRIBED).matches(_place("a", subscribed=True, account=OTHER), ME)
    assert not Filter(Scope.PERSONAL).matches(_place("a", account=OTHER), ME)
    assert not Filter(Scope.INBOXES).matches(_place("a", role=Role.INBOX, account=OTHER), ME)


def _parse(text: bytes) -> MultiSearch:
    return parse_esearch(Cursor((text,)))


def test_where_to_search() -> None:
    assert _parse(b" SEEN") == MultiSearch((Filter(Scope.SELECTED),), SEEN_ONES)
    found = _parse(b' in (mailboxes (a "b c") Subtree &U,BTFw- subtree-one x personal) SEEN')
    assert found.places == (
        Filter(Scope.MAILBOXES, ("a", "b c")),
        Filter(Scope.SUBTREE, ("台北",)),
        Filter(Scope.SUBTREE_ONE, ("x",)),
        Filter(Scope.PERSONAL),
    )
    assert not found.needs_selected
    assert _parse(b" IN (inboxes selected) SEEN").needs_selected
    saved = _parse(b" IN (selected) RETURN (SAVE COUNT) SEEN")
    assert saved.search.returns == Returns(Wanted.SAVE | Wanted.COUNT)
    assert _parse(b" IN (personal personal) SEEN").places == (Filter(Scope.PERSONAL),)
    assert frozenset({Scope.SELECTED, Scope.SELECTED_DELAYED}) == OF_SELECTED


@pytest.mark.parametrize(
    "text",
    [
        b" IN () SEEN",
        b" IN (everything) SEEN",
        b" IN (selected-delayed) SEEN",
        b" IN (mailboxes) SEEN",
        b" IN (mailboxes ()) SEEN",
        b" IN (personal (option)) SEEN",
        b" IN personal SEEN",
        b" IN (personal) RETURN (SAVE) SEEN",
        b" IN (selected personal) RETURN (SAVE) SEEN",
        b" IN (personal)",
        b" IN (mailboxes (" + b" ".join(b"m%d" % n for n in range(201)) + b")) SEEN",
    ],
)
def test_what_is_no_esearch(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        _parse(text)


def test_correlator() -> None:
    assert correlator(b'"a b"', 503) == b' MAILBOX "a b" UIDVALIDITY 503'
