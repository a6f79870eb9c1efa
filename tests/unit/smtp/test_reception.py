"""What a message costs while it arrives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.mail.memory import Memory
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.bdat import Bdat, parse
from mailserver.smtp.protocol.framing import MAX_DRAIN, Overflow
from mailserver.smtp.protocol.replies import Refused
from mailserver.smtp.reception import IN_MEMORY, Reception, Room

MIB = 1024 * 1024


def room(arriving: int = 0, disk: int = 8 * MIB, memory: int = 8 * MIB) -> Room:
    return Room(Memory(arriving), Memory(disk), Memory(memory))


@pytest.mark.parametrize(("arriving", "spooled"), [(0, 2_900_000), (MIB, 1_900_000), (4 * MIB, 0)])
async def test_a_large_message_is_kept_where_there_is_room(arriving: int, spooled: int) -> None:
    shared = room(arriving)
    reception = Reception(4 * MIB, shared)
    pieces = [bytes([index]) * 100_000 for index in range(30)]
    for piece in pieces:
        await reception.add(piece)
    assert shared.disk.free == 8 * MIB - spooled
    assert shared.arriving.free == arriving - (2_900_000 - spooled)
    assert shared.memory.free == 8 * MIB
    data = await reception.content()
    assert data.content == b"".join(pieces)
    assert (shared.disk.free, shared.arriving.free) == (8 * MIB, arriving)
    assert shared.memory.free == 8 * MIB - 3_000_000
    reception.close()
    reception.close()
    assert (shared.disk.free, shared.memory.free) == (8 * MIB, 8 * MIB)


@settings(max_examples=30)
@given(st.lists(st.sampled_from([b"x", b"\r\n", b"\r", b"ab" * 50_000]), max_size=8))
async def test_any_pieces_come_back(pieces: list[bytes]) -> None:
    shared = room(MIB // 4)
    reception = Reception(MIB, shared)
    for piece in pieces:
        await reception.add(piece)
    assert (await reception.content()).content == b"".join(pieces)
    reception.close()
    assert shared.arriving.free == MIB // 4


async def test_a_message_that_is_too_big_is_thrown_away_for_a_while() -> None:
    shared = room()
    reception = Reception(IN_MEMORY * 2, shared)
    for _ in range(3):
        await reception.add(b"x" * IN_MEMORY)
    assert shared.disk.free == 8 * MIB  # given back at once
    with pytest.raises(Refused) as refusal:
        await reception.content()
    assert refusal.value.reply is replies.TOO_BIG
    with pytest.raises(Overflow):
        reception.expect(MAX_DRAIN)
    for _ in range(MAX_DRAIN // MIB - 1):
        await reception.add(b"x" * MIB)
    with pytest.raises(Overflow):
        await reception.add(b"x" * 2 * MIB)


async def test_what_finds_no_room_is_put_off() -> None:
    reception = Reception(2 * MIB, room())
    reception.fail(replies.NO_ROOM)
    await reception.add(b"x" * MIB)
    with pytest.raises(Refused) as refusal:
        await reception.content()
    assert refusal.value.reply.code == 452


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("86 LAST", Bdat(86, True)),
        ("0 last", Bdat(0, True)),
        ("100000", Bdat(100000, False)),
        ("324  LAST ", Bdat(324, True)),
    ],
)
def test_sizes_of_chunks(text: str, expected: Bdat) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "LAST", "-1", "1 FIRST", "0x10", "1LAST", "1 LAST LAST", "\u0663"]
)
def test_a_size_that_cannot_be_read_ends_the_connection(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse(text)
    assert refusal.value.reply.code == 421


@given(st.text(max_size=30) | st.from_regex(r"\A[0-9]{0,25} ?(LAST)?\Z"))
def test_any_argument_is_read_or_refused(text: str) -> None:
    try:
        size = parse(text).size
    except Refused:
        return
    assert 0 <= size < 10**20
