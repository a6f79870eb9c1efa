"""Every mail of the public corpus, with the standard library's parser as the oracle."""

import email
import email.message
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.mime import Message, decode_body, digest, parse, search_text
from tests.data.corpus import COUNT, load

pytestmark = pytest.mark.corpus

CACHE = Path(__file__).parents[2] / ".corpus"

# Mails whose leaves differ from the standard library's, and why.
_DELIVERY_STATUS = "the standard library makes a message of each block of message/delivery-status"
_NO_PART = "a multipart without a part is text/plain here, a multipart with a string there"
_NO_SEMICOLON = "text/plain charset=us-ascii: the standard library takes it all for the type"
_NOT_CLOSED = "the last line end of a multipart that is not closed is kept here, dropped there"
_BROKEN_BASE64 = "base64 with stray octets is decoded here, returned as it is there"
DIFFERENCES = {
    "easy-ham-1/01436.dc449ba377210e77d84647619e49c872": _DELIVERY_STATUS,
    "easy-ham-1/01542.ed72bf2cd81ccd4c076533fb0af004e5": _DELIVERY_STATUS,
    "easy-ham-2/01311.b6a06b3e24130a32172b4c5225a1d5a6": _DELIVERY_STATUS,
    "spam-1/00467.5b733c506b7165424a0d4a298e67970f": _NO_PART,
    "spam-2/01214.973b4598b630a989967ff69b19f95d4a": _NO_PART,
    "spam-2/00204.4cf15f97b8ea08bfafab7d5091b8fbe7": _NO_SEMICOLON,
    "hard-ham-1/00021.1707ccb203e1a39f5167f1c0d65cc235": _NOT_CLOSED,
    "spam-1/00038.8d93819b95ff90bf2e2b141c2909bfc9": _NOT_CLOSED,
    "spam-2/00009.1e1a8cb4b57532ab38aa23287523659d": _NOT_CLOSED,
    "spam-2/00714.cd13d8db12cc1f661d6b2eb6fcbb5156": _NOT_CLOSED,
    "spam-1/00260.c75ce8b8d8bfc55723426979d260bf61": _BROKEN_BASE64,
    "spam-1/00307.7ed50c6d80c6e37c8cc1b132f4a19e4d": _BROKEN_BASE64,
    "spam-1/00313.fab744bfd5a128fca39b69df9811c086": _BROKEN_BASE64,
}


@pytest.fixture(scope="module")
def corpus() -> list[tuple[str, bytes]]:
    return load(CACHE)


def ours(raw: bytes, message: Message) -> list[tuple[str, bytes]]:
    return [
        (
            f"{part.type}/{part.subtype}",
            unpadded(
                decode_body(raw[part.body_start : part.body_end], part.encoding), part.encoding
            ),
        )
        for part in message.parts
        if part.type != "multipart" and part.message is None
    ]


def theirs(message: "email.message.Message[str, str]") -> Iterator[tuple[str, object]]:
    for part in message.walk():
        if not part.is_multipart():
            yield part.get_content_type(), payload(part)


def payload(part: "email.message.Message[str, str]") -> object:
    octets = part.get_payload(decode=True)
    encoding = str(part["Content-Transfer-Encoding"]).strip().lower()
    return unpadded(octets, encoding) if isinstance(octets, bytes) else octets


def unpadded(octets: bytes, encoding: str) -> bytes:
    """Drop white space before line ends of what was quoted-printable.

    That in the encoded lines was added on the way and is no content (RFC 2045 §6.7 rule 3), but the
    standard library leaves it in.
    """
    if encoding != "quoted-printable":
        return octets
    return re.sub(rb"[ \t]+(?=\r?\n|\Z)", b"", octets)


def test_every_leaf_equals_the_standard_librarys(corpus: list[tuple[str, bytes]]) -> None:
    different = {
        name
        for name, raw in corpus
        if ours(raw, parse(raw)) != list(theirs(email.message_from_bytes(raw)))
    }
    assert len(corpus) == COUNT
    assert different == set(DIFFERENCES)


def test_line_ends_do_not_change_the_tree(corpus: list[tuple[str, bytes]]) -> None:
    for name, raw in corpus[::7]:
        if b"\r" in raw:
            continue
        with_lf = [(p.section, p.type, p.subtype, p.lines) for p in parse(raw).parts]
        crlf = parse(raw.replace(b"\n", b"\r\n"))
        assert [(p.section, p.type, p.subtype, p.lines) for p in crlf.parts] == with_lf, name


def test_every_mail_has_a_digest_and_text(corpus: list[tuple[str, bytes]]) -> None:
    previews = identified = 0
    for name, raw in corpus:
        found = digest(raw)
        assert found.size == len(raw), name
        assert len(found.preview) <= 256, name
        assert "\0" not in found.preview, name
        previews += bool(found.preview)
        identified += found.message_id is not None
        assert len(search_text(raw, parse(raw)).body) <= 262144
    # a mail without a readable line or a Message-ID is rare
    assert previews > COUNT * 0.99
    assert identified > COUNT * 0.99
