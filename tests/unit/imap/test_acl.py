"""Access control lists on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol import acl, flags
from mailserver.imap.protocol.acl import Identified, SetAcl, shown
from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.framing import Command, Framing
from mailserver.model import (
    ALL_RIGHTS,
    DELETED,
    FLAG_NAMES,
    NO_RIGHTS,
    SEEN,
    Right,
    RightsChange,
    flag_mask,
    rights_of,
    rights_text,
)

RIGHTS = st.frozensets(st.sampled_from(list(Right))).map(
    lambda chosen: rights_of("".join(rights_text(right) for right in chosen))
)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (b" INBOX bob lr", SetAcl("INBOX", "bob", RightsChange.REPLACE, rights_of("lr"))),
        (b' INBOX "-b c" +c', SetAcl("INBOX", "-b c", RightsChange.ADD, rights_of("kx"))),
        (b" INBOX bob -dd", SetAcl("INBOX", "bob", RightsChange.REMOVE, rights_of("te"))),
        (b' INBOX bob ""', SetAcl("INBOX", "bob", RightsChange.REPLACE, NO_RIGHTS)),
        (b" INBOX bob +", SetAcl("INBOX", "bob", RightsChange.ADD, NO_RIGHTS)),
        (b" INBOX bob lrswipkxtecda", SetAcl("INBOX", "bob", RightsChange.REPLACE, ALL_RIGHTS)),
    ],
)
def test_setacl_is_read(text: bytes, command: SetAcl) -> None:
    assert acl.parse_setacl(Cursor((text,))) == command


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b" INBOX bob lrQ", "Uppercase rights are not allowed"),
        (b" INBOX bob lrq", "A right is not supported"),
        (b' INBOX bob "l r"', "A right is not supported"),
        (b" INBOX bob l+r", "A right is not supported"),
        (b' INBOX bob "\xc3\x84"', "A right is not supported"),
        (b' INBOX "" lr', "Identifier is empty or too long"),
        (b" INBOX - lr", "Identifier is empty or too long"),
        (b" INBOX " + b"x" * 1001 + b" lr", "Identifier is empty or too long"),
        (b' INBOX "\xff" lr', "Identifier is not UTF-8"),
        (b" INBOX bob", "Expected a space"),
        (b" INBOX bob lr x", "Unexpected text after the arguments"),
    ],
)
def test_setacl_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        acl.parse_setacl(Cursor((text,)))


def test_a_mailbox_and_an_identifier() -> None:
    read = acl.parse_identified(Cursor((b' "a b" "-\xc3\xa4@example.test"',)))
    assert read == Identified("a b", "-ä@example.test")
    with pytest.raises(ProtocolError):
        acl.parse_identified(Cursor((b" INBOX bob lr",)))


@given(st.sampled_from([b" INBOX bob +lr", b' {3+}\r\nabc "x y" -cd']), st.data())
def test_damaged_commands_are_refused(text: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(text)))
    damaged = text[:position] + data.draw(st.binary(max_size=4)) + text[position + 1 :]
    framing = Framing()
    framing.feed(b"a SETACL" + damaged + b"\r\n")
    command = framing.command()
    if not isinstance(command, Command):
        return
    cursor = Cursor(command.parts)
    cursor.tag()
    cursor.expect(b" SETACL")
    for parse in (acl.parse_setacl, acl.parse_identified):
        try:
            parse(cursor)
        except ProtocolError:
            continue


@given(RIGHTS)
def test_rights_are_shown_as_they_are_read(rights: Right) -> None:
    letters = shown(rights).strip(b'"').decode()
    assert acl.parse_setacl(Cursor((b" a b " + shown(rights),))).rights & rights == rights
    assert rights_of("".join(letter for letter in letters if letter not in "cd")) == rights
    # RFC 4314 §2.1.1: with any member the virtual right, and only then
    assert ("c" in letters) == bool(set("kx") & set(letters))
    assert ("d" in letters) == bool(set("te") & set(letters))
    assert rights_of(rights_text(rights)) == rights


def test_responses() -> None:
    assert acl.acl(b"INBOX", []) == b"* ACL INBOX\r\n"
    entries = [("Fred", ALL_RIGHTS), ("-x y", rights_of("w")), ("ä", NO_RIGHTS)]
    assert acl.acl(b"INBOX", entries) == (
        b'* ACL INBOX Fred lrswipkxtecda "-x y" w {2}\r\n\xc3\xa4 ""\r\n'
    )
    assert acl.my_rights(b"INBOX", rights_of("rx")) == b"* MYRIGHTS INBOX rxc\r\n"
    assert acl.list_rights(b"a", "smith", rights_of("la")) == (
        b"* LISTRIGHTS a smith la r s w i p k x t e c d\r\n"
    )
    assert acl.list_rights(b"a", "anyone", NO_RIGHTS) == (
        b'* LISTRIGHTS a anyone "" l r s w i p k x t e a c d\r\n'
    )


@given(RIGHTS, st.sets(st.sampled_from(["a", "B"])))
def test_permanent_flags_are_those_that_rights_let_change(rights: Right, words: set[str]) -> None:
    told = set(flags.permanent(words, rights).decode().split())
    mask = flag_mask(rights)
    assert {name for bit, name, _ in FLAG_NAMES if bit & mask} == told - words - {"\\*"}
    assert ("\\Seen" in told) == (Right.SEEN in rights) == bool(mask & SEEN)
    assert ("\\Deleted" in told) == (Right.DELETE in rights) == bool(mask & DELETED)
    assert ({"\\*", "\\Flagged", *words} <= told) == (Right.WRITE in rights)
