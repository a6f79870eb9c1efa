"""NOTIFY as it is read, and what it makes the server say (RFC 5465 §8)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.fetch import Attribute, Section
from mailserver.imap.protocol.filters import Filter, Scope
from mailserver.imap.protocol.notify import (
    ARRIVALS,
    BAD_EVENT,
    MESSAGE_EVENTS,
    NONE,
    Group,
    Notify,
    metadata_names,
    parse_notify,
)


def _parse(text: bytes) -> Notify:
    return parse_notify(Cursor((text,)))


def test_none() -> None:
    assert _parse(b" none") == Notify(None)
    assert _parse(b" NONE").of_selected is None


def test_groups() -> None:
    found = _parse(
        b" set Status (selected (MessageNew (uid body.peek[header.fields (from)]) messageexpunge))"
        b" (subtree Lists (MessageNew MessageExpunge FlagChange))"
        b' (mailboxes (misc "a b") NONE) (personal (MailboxName SubscriptionChange'
        b" MailboxMetadataChange ServerMetadataChange))"
    )
    assert found.status
    assert found.supported
    section = Section(
        b"BODY[HEADER.FIELDS (from)]", "", "HEADER.FIELDS", (b"from",), None, 0, False
    )
    selected, lists, misc, personal = found.groups or ()
    assert selected == Group(Filter(Scope.SELECTED), ARRIVALS, (Attribute.UID, section))
    assert found.of_selected is selected
    assert lists == Group(Filter(Scope.SUBTREE, ("Lists",)), MESSAGE_EVENTS)
    assert misc == Group(Filter(Scope.MAILBOXES, ("misc", "a b")), NONE)
    assert personal.events == ~(MESSAGE_EVENTS)
    assert not _parse(b" SET (inboxes NONE)").status
    assert _parse(b" SET (inboxes NONE)").of_selected is None


def test_what_is_not_supported() -> None:
    found = _parse(b" SET (personal (MessageNew MessageExpunge AnnotationChange X-Other))")
    assert not found.supported
    assert BAD_EVENT == (
        b"BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange"
        b" MailboxMetadataChange ServerMetadataChange)"
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b" NONE NONE",
        b" SOME (personal NONE)",
        b" SET",
        b" SET STATUS",
        b" SET personal NONE",
        b" SET (personal)",
        b" SET (personal ())",
        b" SET (subtree-one a NONE)",
        b" SET (subtree NONE)",
        b" SET (selected NONE) (selected-delayed NONE)",
        b" SET (personal (MessageNew))",
        b" SET (personal (MessageExpunge))",
        b" SET (personal (FlagChange))",
        b" SET (personal (MessageNew FlagChange))",
        b" SET (selected (MailboxName))",
        b" SET (selected (MessageNew () MessageExpunge))",
        b" SET (selected (MessageNew (NONSENSE) MessageExpunge))",
        b" SET (selected (MessageExpunge (UID) MessageNew))",
        b" SET (inboxes (MessageNew (UID) MessageExpunge))",
        b" SET " + b" ".join([b"(personal NONE)"] * 101),
    ],
)
def test_what_is_no_notify(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        _parse(text)


_GOOD = b" SET STATUS (selected (MessageNew (UID FLAGS) MessageExpunge)) (personal (MailboxName))"


@given(st.integers(0, len(_GOOD)), st.integers(0, len(_GOOD)), st.binary(max_size=3))
def test_any_octets_are_a_command_or_refused(start: int, end: int, junk: bytes) -> None:
    try:
        found = _parse(_GOOD[:start] + junk + _GOOD[end:])
    except ProtocolError:
        return
    assert found.groups is None or found.groups


def test_metadata_names() -> None:
    assert metadata_names(b"INBOX", ["/shared/comment"]) == b"* METADATA INBOX /shared/comment\r\n"
    assert metadata_names(b'""', ["/private/a", "/private/b"]) == (
        b'* METADATA "" /private/a /private/b\r\n'
    )
