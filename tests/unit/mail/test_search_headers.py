"""What is kept in memory for searching, and how much of it."""

import pytest
import zstandard

from mailserver.mail.frames import Frame
from mailserver.mail.search_headers import ANSWER_SIZE, SearchHeader, SearchHeaders, text_of
from mailserver.mime import field_reader
from mailserver.mime.subject import is_reply
from mailserver.model import AccountId, MailboxId
from mailserver.storage.search_headers import StoredHeader

ALICE = AccountId(1)
INBOX, WORK = MailboxId(1), MailboxId(2)


def _header(text: str) -> SearchHeader:
    octets = text.replace("\n", "\r\n").encode()
    return SearchHeader(StoredHeader(1, None, zstandard.ZstdCompressor().compress(octets)))


def _field(text: str, name: str) -> str | None:
    return text_of(field_reader(name)(text.replace("\n", "\r\n").encode()), name)


def test_a_header_is_decoded_as_it_is_compared() -> None:
    text = (
        "From: =?utf-8?q?J=C3=BCrgen?= <Juergen@example.org>, b@example.org\n"
        "To: Friends: c@example.org;\n"
        "Subject: Re: =?utf-8?b?R3LDvMOfZQ==?=\n"
        "Subject: two\n"
        'Message-ID: <"a\\.b"@x>\n'
        "In-Reply-To: <c@x> said <d@x>\n"
        "Date: Wed, 17 Jul 1996 02:23:25 -0700\n\n"
    )
    header = _header(text)
    assert _field(text, "from") == "JU\u0308RGEN <JUERGEN@EXAMPLE.ORG>, B@EXAMPLE.ORG"
    assert _field(text, "subject") == "RE: GRU\u0308ßE\0TWO"
    assert _field(text, "cc") is None
    assert (header.first_from, header.display_from) == ("JUERGEN", "JU\u0308RGEN")
    assert (header.first_to, header.display_to) == ("FRIENDS", "FRIENDS")
    assert (header.first_cc, header.base_subject, header.is_reply) == ("", "TWO", False)
    assert (header.message_id, header.references) == ("a.b@x", ("c@x",))
    assert (header.sent, header.sent_day) == (None, "1996-07-17")


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("<ann (a comment)@ (b) x.example>", "ann@x.example"),
        ("Ann @ x . example", "ann@x.example"),
        ('"Ann \\"B\\" C" <ann@x.example>', 'ann "b" c <ann@x.example>'),
        ('"Ann"\n B <ann@x.example>', "ann b <ann@x.example>"),
        ('"ann b"@x.example', "ann b@x.example"),
        ("Friends: (nobody) ;, ann@x.example (Ann)", "\0ann <ann@x.example>"),
    ],
)
def test_addresses_are_searched_as_the_envelope_shows_them(field: str, shown: str) -> None:
    found = _field(f"To: {field}\n\n", "to")
    assert found is not None
    assert shown.upper() in found


def test_an_empty_header() -> None:
    header = _header("\n")
    assert _field("\n", "from") is None
    assert (header.first_from, header.display_to, header.base_subject) == ("", "", "")
    assert (header.message_id, header.references, header.sent_day) == (None, (), None)


def test_what_is_a_reply() -> None:
    replies = ["Re: a", "FW: a", "[x] re [y]: a", "a (fwd)", "[fwd: a]", "[x] Fwd: [x] a", "re:"]
    others = ["a", "[x] a", "regards: a", "", " [re: ]", "re", "a (fwd) b"]
    assert [is_reply(each) for each in replies + others] == [True] * 7 + [False] * 7


async def test_a_question_is_answered_once() -> None:
    cache = SearchHeaders(answer_room=2 * (ANSWER_SIZE + 10) + 5)
    asked = []

    async def ask(*question: bytes) -> bytes:
        async def work() -> bytes:
            asked.append(question)
            return b"0123456789"

        return await cache.answer(question, work)

    for question in ((b"a", b"bc"), (b"ab", b"c"), (b"a", b"bc")):
        assert await ask(*question) == b"0123456789"
    assert asked == [(b"a", b"bc"), (b"ab", b"c")]
    await ask(b"new")
    assert cache.answer_size == 2 * (ANSWER_SIZE + 10)
    await ask(b"ab", b"c")  # it was the one that made room
    assert len(asked) == 4


async def test_empty_answers_take_room_as_well() -> None:
    cache = SearchHeaders(answer_room=10_000)
    asked = []

    async def nothing() -> bytes:
        asked.append(b"")
        return b""

    for number in range(1000):
        await cache.answer((b"%d" % number,), nothing)
    await cache.answer((b"999",), nothing)
    assert len(asked) == 1000
    await cache.answer((b"0",), nothing)
    assert len(asked) == 1001
    assert 0 < cache.answer_size <= 10_000


def _frame(ids: tuple[int, ...], text: bytes) -> Frame:
    return Frame(ids, zstandard.ZstdCompressor().compress(text))


def test_a_frame_knows_whose_text_it_is() -> None:
    frame = _frame((7, 8), b"one two\0\0head\0two three\0name\0other")
    assert frame.matching(b"two", everywhere=False) == [7, 8]
    assert frame.matching(b"three", everywhere=False) == [8]
    assert frame.matching(b"head", everywhere=False) == []
    assert frame.matching(b"head", everywhere=True) == [7]
    assert frame.matching(b"name", everywhere=False) == []
    assert frame.matching(b"name", everywhere=True) == [8]
    assert frame.matching(b"head\0two", everywhere=True) == []
    assert frame.matching(b"", everywhere=False) == [7, 8]
    assert _frame((), b"").matching(b"", everywhere=True) == []
