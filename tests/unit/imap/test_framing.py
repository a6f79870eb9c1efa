"""Framing: what comes out depends on the octets alone."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.imap.protocol.framing import (
    LINE_LIMIT,
    LITERAL_LIMIT,
    LONG_LINE_LIMIT,
    SPOOL_ABOVE,
    Chunk,
    Command,
    Continuation,
    Event,
    Framing,
    Hopeless,
    LineTooLong,
    LiteralTooBig,
    NoRoom,
    Spooled,
)

APPEND_LIMIT = 400_000


def _events(pieces: list[bytes], append_limit: int = APPEND_LIMIT) -> list[Event]:
    framing = Framing()
    framing.append_limit = append_limit
    found: list[Event] = []
    for piece in pieces:
        framing.feed(piece)
        while (event := framing.command()) is not None:
            last = found[-1] if found else None
            if isinstance(event, Chunk) and isinstance(last, Chunk):
                found[-1] = Chunk(last.octets + event.octets)  # where chunks end is no promise
            else:
                found.append(event)
            if isinstance(event, Hopeless):
                return found
    return found


def test_a_line() -> None:
    assert _events([b"a NOOP\r\n"]) == [Command((b"a NOOP",))]
    assert _events([b"a NOOP\n"]) == [Command((b"a NOOP",))]
    assert _events([b"a NO", b"OP\r", b"\nb"]) == [Command((b"a NOOP",))]


def test_literals_become_parts() -> None:
    assert _events([b"a LOGIN {3}\r\nx\r\n {2+}\r\nyz\r\n"]) == [
        Continuation(),
        Command((b"a LOGIN ", b"x\r\n", b" ", b"yz", b"")),
    ]
    assert _events([b"a LOGIN {0+}\r\n b\r\n"]) == [Command((b"a LOGIN ", b"", b" b"))]
    assert _events([b"a LOGIN {1+} \r\n"]) == [Command((b"a LOGIN {1+} ",))]


def test_large_literals_only_in_append_after_the_login() -> None:
    size = LITERAL_LIMIT + 1
    octets = b"x" * size
    assert _events([b"a append box {%d}\r\n" % size]) == [Continuation()]
    assert _events([b"a APPEND box {%d+}\r\n" % size + octets + b"\r\n"]) == [
        Command((b"a APPEND box ", octets, b""))
    ]
    assert _events([b"a APPEND {3+}\r\nbox {%d}\r\n" % APPEND_LIMIT]) == [Continuation()]
    assert _events([b"a APPEND box {%d}\r\nb NOOP\r\n" % (APPEND_LIMIT + 1)]) == [
        LiteralTooBig(b"a", append=True),
        Command((b"b NOOP",)),
    ]
    refused = LiteralTooBig(b"a", append=False)
    assert _events([b"a SEARCH {%d}\r\n" % size]) == [refused]
    assert _events([b"a APPEND box {%d}\r\n" % size], append_limit=0) == [refused]


def test_a_refused_literal_is_drained_to_the_end_of_its_command() -> None:
    size = LITERAL_LIMIT + 1
    sent = b"a SEARCH {%d+}\r\n" % size + b"\n" * size + b" {2+}\r\nxx y\r\nb NOOP\r\n"
    expected = [LiteralTooBig(b"a", append=False), Command((b"b NOOP",))]
    assert _events([sent]) == expected
    assert _events([sent[i : i + 977] for i in range(0, len(sent), 977)]) == expected
    # a synchronizing literal after it is refused, and ends the command
    sent = b"a SEARCH {%d+}\r\n" % size + b"x" * size + b" {2}\r\nb NOOP\r\n"
    assert _events([sent]) == expected


def test_too_many_literals_are_too_large_together() -> None:
    sent = b"a LOGIN " + b"{40000+}\r\n" + b"x" * 40000 + b" {40000+}\r\n" + b"x" * 40000 + b"\r\n"
    assert _events([sent]) == [LiteralTooBig(b"a", append=False)]


def test_hopeless() -> None:
    assert _events([b"a X {%d+}\r\n" % (3 * LITERAL_LIMIT)]) == [Hopeless()]
    assert _events([b"a APPEND x {4294967295+}\r\n"]) == [Hopeless()]


def test_a_long_line_is_skipped_and_named() -> None:
    line = b"tag1 NOOP " + b"x" * LINE_LIMIT
    expected = [LineTooLong(b"tag1"), Command((b"b NOOP",))]
    sent = line + b"\r\nb NOOP\r\n"
    assert _events([sent]) == expected
    assert _events([sent[i : i + 1000] for i in range(0, len(sent), 1000)]) == expected
    assert _events([b"x" * (LINE_LIMIT + 1) + b"\n"]) == [LineTooLong(b"*")]
    assert len(_events([b"a " + b"x" * (LINE_LIMIT - 3) + b"\r\n"])) == 1
    # all the text of a command counts, not each line
    sent = b"a X " + b"x" * 40_000 + b"{1+}\r\ny" + b"x" * 40_000 + b"\r\nb NOOP\r\n"
    assert _events([sent]) == [LineTooLong(b"a"), Command((b"b NOOP",))]


@pytest.mark.parametrize(
    ("line", "append_limit"),
    [
        (b"a X " + b"x" * LINE_LIMIT, 0),
        (b"a X " + b"x" * LONG_LINE_LIMIT, APPEND_LIMIT),
        (b"a FETCH " + b"1," * LONG_LINE_LIMIT, APPEND_LIMIT),
        (b"a X {3+}\r\nabc " + b"x" * LINE_LIMIT, 0),
        (b"a X {3+}\r\nabc " + b"x" * LINE_LIMIT + b" {3+}\r\nabc" + b"x" * LINE_LIMIT, 0),
    ],
    ids=["text", "logged in", "sequence set", "later text", "twice"],
)
@pytest.mark.parametrize(
    ("rest", "last"),
    [
        (b" {8+}\r\nz NOOP\r\n y\r\n", None),
        (b"~{8+}\nz NOOP\r\n\n", None),
        (b" {8+}\r\nz NOOP\r\n {8+}\r\ny NOOP\r\n x NOOP\r\n", None),
        (b" {0+}\r\n\r\n", None),
        (b" {8}\r\n", None),
        (b" {8+}\r\nz NOOP\r\n {8}\r\n", None),
        (b" {8+} \r\nz NOOP\r\n", b"z NOOP"),
        (b" {8+}\r\r\nz NOOP\r\n", b"z NOOP"),
        (b"9+}\r\nz NOOP\r\n", b"z NOOP"),
    ],
)
def test_a_literal_sent_at_once_belongs_to_a_line_that_is_not_kept(
    line: bytes, append_limit: int, rest: bytes, last: bytes | None
) -> None:
    sent = line + rest + b"b NOOP\r\n"
    commands = [b"b NOOP"] if last is None else [last, b"b NOOP"]
    expected = [LineTooLong(b"a"), *(Command((each,)) for each in commands)]
    assert _events([sent], append_limit) == expected
    for size in (1, 33, 977):  # the end of the line and what follows it, in small pieces
        place = len(line) - 50
        pieces = [sent[i : i + size] for i in range(place, len(sent), size)]
        assert _events([sent[:place], *pieces], append_limit) == expected


def test_what_is_sent_at_once_with_a_line_that_is_not_kept_has_its_limits() -> None:
    line = b"a X " + b"x" * LONG_LINE_LIMIT
    most = 2 * LITERAL_LIMIT
    sent = line + b" {%d+}\r\n" % most + b"\n" * most + b"\r\nb NOOP\r\n"
    expected = [LineTooLong(b"a"), Command((b"b NOOP",))]
    assert _events([sent]) == expected
    assert _events([line + b" {%d+}\r\nb NOOP\r\n" % (most + 1)]) == [Hopeless()]
    both = line + b" {1+}\r\nx {%d+}\r\nb NOOP\r\n" % most
    assert _events([both]) == [Hopeless()]
    # of a message they are others
    line = b"a APPEND box (" + b"x" * LONG_LINE_LIMIT
    most = 2 * (APPEND_LIMIT + LITERAL_LIMIT)
    sent = line + b" {%d+}\r\n" % most + b"\n" * most + b"\r\nb NOOP\r\n"
    assert _events([sent]) == expected
    assert _events([line + b" {%d+}\r\nb NOOP\r\n" % (most + 1)]) == [Hopeless()]


def test_after_the_login_a_line_may_be_long_by_its_sequence_sets() -> None:
    numbers = b"1000001," * 100_000 + b"1"
    assert _events([b"a UID STORE " + numbers + b" +FLAGS (x)\r\n"]) == [
        Command((b"a UID STORE " + numbers + b" +FLAGS (x)",))
    ]
    assert _events([b"a UID COPY " + numbers + b" {1+}\r\nx\r\n"]) == [
        Command((b"a UID COPY " + numbers + b" ", b"x", b""))
    ]
    long = LineTooLong(b"a")
    assert _events([b"a UID STORE " + numbers + b" X\r\n"], append_limit=0) == [long]
    assert _events([b"a FETCH " + b"1," * (LONG_LINE_LIMIT // 2) + b"\r\n"]) == [long]
    text = b"x" * LINE_LIMIT
    assert _events([b"a UID STORE 1 " + text + b"\r\nb NOOP\r\n"]) == [
        long,
        Command((b"b NOOP",)),
    ]
    # what follows is read to its end
    assert _events([b"a X " + text + b" {3+}\r\nabc {2}\r\nb NOOP\r\n"]) == [
        long,
        Command((b"b NOOP",)),
    ]


def test_a_large_message_is_handed_out() -> None:
    octets = b"m" * (SPOOL_ABOVE + 1)
    size = len(octets)
    assert _events([b"a APPEND x {%d}\r\n" % size, octets, b"\r\nb NOOP\r\n"]) == [
        Continuation(),
        Chunk(octets),
        Command((b"a APPEND x ", Spooled(0, size), b"")),
        Command((b"b NOOP",)),
    ]
    # what is large together is too: the second and the fourth of these
    sent = b"a APPEND x {200000+}\r\n" + b"a" * 200_000 + b" {70000+}\r\n" + b"b" * 70_000
    sent += b" {3+}\r\nabc {70001+}\r\n" + b"d" * 70_001 + b"\r\n"
    first, second = Spooled(0, 70_000), Spooled(70_000, 70_001)
    assert _events([sent]) == [
        Chunk(b"b" * 70_000 + b"d" * 70_001),
        Command((b"a APPEND x ", b"a" * 200_000, b" ", first, b" ", b"abc", b" ", second, b"")),
    ]


def test_without_room_the_rest_is_read_and_forgotten() -> None:
    size = SPOOL_ABOVE + 1
    framing = Framing()
    framing.append_limit = APPEND_LIMIT
    framing.feed(b"a APPEND x {%d+}\r\n" % size + b"m" * 100_000)
    assert framing.command() == Chunk(b"m" * 100_000)
    framing.feed(b"m" * 1000)
    assert framing.command() is None
    assert framing.held == 1000 + len(b"a APPEND x {%d+}" % size)
    framing.give_up()
    framing.feed(b"m" * (size - 101_000) + b"\r\nb NOOP\r\n")
    assert framing.command() == NoRoom(b"a")
    assert framing.command() == Command((b"b NOOP",))
    # in the last chunk, in a literal in memory, and in a line
    framing.feed(b"c APPEND x {%d+}\r\n" % size + b"m" * size)
    assert isinstance(framing.command(), Chunk)
    framing.give_up()
    framing.feed(b"\r\nd APPEND x {100+}\r\n" + b"m" * 50)
    assert framing.command() == NoRoom(b"c")
    assert framing.command() is None
    assert framing.held == 50 + len(b"d APPEND x {100+}")
    framing.give_up()
    assert framing.held == 50
    framing.feed(b"m" * 50 + b"\r\ne FETCH 1,2")
    assert framing.command() == NoRoom(b"d")
    assert framing.command() is None
    framing.give_up()
    assert framing.command() is None
    assert framing.held == len(b"e FETCH 1,2")
    framing.feed(b",3 FLAGS\r\nf NOOP\r\n")
    assert framing.command() == NoRoom(b"e")
    assert framing.command() == Command((b"f NOOP",))
    # the end came while it was waited for room
    framing.feed(b"g FETCH 1,2")
    assert framing.command() is None
    framing.feed(b",3 FLAGS\r\nh NOOP\r\n")
    framing.give_up()
    assert framing.command() == NoRoom(b"g")
    assert framing.command() == Command((b"h NOOP",))


def test_without_room_a_literal_sent_at_once_is_forgotten_too() -> None:
    framing = Framing()
    framing.append_limit = APPEND_LIMIT
    framing.feed(b"a APPEND x {3+}\r\nabc (\\Seen) {20")
    assert framing.command() is None
    framing.give_up()
    framing.feed(b"0000+}\r\n" + b"\n" * 200_000 + b"\r\nb COPY 1,")
    assert framing.command() == NoRoom(b"a")
    # a line that came to its end meanwhile, and one whose start is not even a tag
    assert framing.command() is None
    framing.feed(b"2 {8+}\r\nz NOOP\r\n")
    framing.give_up()
    framing.feed(b"\r\nc")
    assert framing.command() == NoRoom(b"b")
    assert framing.command() is None
    framing.give_up()
    framing.feed(b" APPEND x {8}\r\nd NOOP\r\n")
    assert framing.command() == NoRoom(b"*")
    assert framing.command() == Command((b"d NOOP",))


def test_what_is_refused_leaves_memory_at_once() -> None:
    framing = Framing()
    framing.append_limit = APPEND_LIMIT
    framing.feed(b"a APPEND x {200000+}\r\n" + b"m" * 200_000)
    assert framing.command() is None
    assert framing.held > 200_000
    for _ in range(100):
        framing.feed(b" " + b"x" * 50_000)
        assert framing.command() is None
    assert framing.held < 100
    framing.feed(b" {8+}\r\nz NOOP\r\n\r\nb NOOP\r\n")
    assert framing.command() == LineTooLong(b"a")
    assert framing.command() == Command((b"b NOOP",))


def test_memory_is_bounded() -> None:
    framing = Framing()
    for _ in range(100):
        framing.feed(b"x" * 50_000)
        assert framing.command() is None
        assert framing.buffered <= LINE_LIMIT + 50_000
    framing.clear()
    assert framing.buffered == 0
    framing.feed(b"a NOOP\r\n")
    assert framing.command() == Command((b"a NOOP",))


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_command_in_the_place_of_a_line_is_read_to_its_end(size: int) -> None:
    """What a message holds is no command, though the client sends it too early."""
    message = b"x LOGOUT\r\n" * 10
    early = b"a APPEND INBOX ~{%d+}\r\n%b {3+}\r\nabc\r\n" % (len(message), message)
    octets = early + b"DONE\r\nb NOOP\r\n"
    framing = Framing()
    said: list[object] = []
    for start in range(0, len(octets), size):
        framing.feed(octets[start : start + size])
        while len(said) < 2 and (line := framing.line()) is not None:
            said.append(line)
    assert said == [LineTooLong(b"*"), b"DONE"]
    assert framing.command() == Command((b"b NOOP",))


def test_lines_as_they_are() -> None:
    framing = Framing()
    framing.feed(b"DO")
    assert framing.line() is None
    framing.feed(b"NE\r\n{5}\r\na NOOP\r\n")
    assert framing.line() == b"DONE"
    assert framing.line() == b"{5}"
    assert framing.command() == Command((b"a NOOP",))
    framing.feed(b"x" * (LINE_LIMIT + 1))
    assert framing.line() is None
    framing.feed(b" {8+}\r\nb NOOP\r\n\r\nc NOOP\r\n")
    assert framing.line() == LineTooLong(b"*")
    assert framing.command() == Command((b"c NOOP",))


PIECES = st.sampled_from(
    [
        b"a1 NOOP\r\n",
        b"a2 LOGIN {3}\r\nabc {4+}\r\nd\r\ne\r\n",
        b"a3 APPEND x {70000+}\r\n" + b"m" * 70000 + b"\r\n",
        b"a4 APPEND x {200001+}\r\n" + b"m" * 200001 + b"\r\n",
        b"a4 APPEND x {300001+}\r\n" + b"m" * 300_001 + b"\r\n",
        b"a4 APPEND x {400001+}\r\n" + b"m" * 400_001 + b"\r\n",
        b"a5 SEARCH {70000}\r\n",
        b"a6 " + b"y" * 70000 + b"\r\n",
        b"a7 " + b"y" * LONG_LINE_LIMIT + b" {9+}\r\nb1 NOOP\r\n\r\n",
        b"a8 " + b"y" * LONG_LINE_LIMIT + b" {9}\r\n",
        b"{1}\r\n",
        b"{1+}",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0\xff",
    ]
)


@settings(max_examples=100)
@given(st.lists(PIECES, max_size=8), st.lists(st.integers(0, 400_000), max_size=12))
def test_cutting_changes_nothing(pieces: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(pieces)
    places = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    cut = [whole[a:b] for a, b in itertools.pairwise(places)]
    assert _events(cut) == _events([whole])


@given(
    st.integers(-60, 20),
    st.sampled_from([b" ", b"~", b"{", b"{1"]),
    st.sampled_from([b"\r\n", b"\n"]),
    st.lists(st.sampled_from([b"z NOOP\r\n", b"{1+}\r\n", b"\n", b"\0"]), max_size=4),
    st.lists(st.integers(-100, 100), max_size=12),
)
def test_what_a_literal_holds_is_no_command_however_long_the_line(
    beyond: int, before: bytes, line_end: bytes, held: list[bytes], cuts: list[int]
) -> None:
    octets = b"".join(held)
    line = b"a X " + b"x" * (LINE_LIMIT + beyond) + before
    announced = b"{%d+}" % len(octets)
    whole = line + announced + line_end + octets + b"\r\nb NOOP\r\n"
    places = {len(line) + len(announced) + cut for cut in cuts}
    places = {0, len(whole), *(place for place in places if place < len(whole))}
    cut = [whole[a:b] for a, b in itertools.pairwise(sorted(places))]
    found = _events(cut, append_limit=0)
    assert found == _events([whole], append_limit=0)
    if before == b"~":
        line = line[:-1]
    assert found in (
        [LineTooLong(b"a"), Command((b"b NOOP",))],
        [Command((line, octets, b"")), Command((b"b NOOP",))],
    )


@settings(max_examples=100)
@given(st.lists(PIECES | st.binary(max_size=20), max_size=6))
def test_octet_by_octet(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)[:3000]
    assert _events([whole[i : i + 1] for i in range(len(whole))]) == _events([whole])
