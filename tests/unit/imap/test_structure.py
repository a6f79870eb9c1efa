"""message/global for clients of RFC 3501: a part like any other."""

import pytest

from mailserver.imap.protocol.structure import any_global, without_global
from mailserver.mime import parse
from mailserver.mime.structure import body, bodystructure

INNER = b"From: ann@example.org\nSubject: \xc3\xbc\n\ntext\n"
GLOBAL = b"Content-Type: message/global\n\n" + INNER
BASIC = b'("message" "global" NIL NIL NIL "7bit" %d'


def test_a_message() -> None:
    message = parse(GLOBAL.replace(b"\n", b"\r\n"))
    size = len(INNER.replace(b"\n", b"\r\n"))
    assert b"ann" in bodystructure(message)
    assert without_global(bodystructure(message)) == BASIC % size + b" NIL NIL NIL NIL)"
    assert without_global(body(message)) == BASIC % size + b")"


def test_one_among_many() -> None:
    plain = bodystructure(parse(INNER))
    assert not any_global([])
    assert not any_global([plain, plain])
    assert any_global([plain, bodystructure(parse(GLOBAL.replace(b"\n", b"\r\n"))), plain])


def test_parts_and_messages_around_it() -> None:
    mixed = (
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" + GLOBAL
        + b"\n--b\nContent-Type: message/rfc822\nContent-Description: \xc3\xbc(\"\n\n"
        + GLOBAL + b"\n--b--\n"
    ).replace(b"\n", b"\r\n")  # fmt: skip
    for whole in (bodystructure(parse(mixed)), body(parse(mixed))):
        short = without_global(whole)
        assert short.count(b'"global"') == whole.count(b'"global"') == 2
        assert b"ann" not in short
        assert short.count(b"(") == short.count(b")") + 1  # one stands in a literal
        assert short.endswith(whole[whole.rindex(b'"mixed"') :])


@pytest.mark.parametrize(
    "structure",
    [
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)',
        b'("text" "plain" ("a" {19}\r\n"message" "global" ) NIL NIL "7bit" 0 0)',
        b'("message" "global" NIL NIL NIL "base64" 7 NIL NIL)',
    ],
)
def test_everything_else_stays(structure: bytes) -> None:
    assert without_global(structure) == structure
