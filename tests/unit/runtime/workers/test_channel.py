import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.runtime.workers.channel import Channel

WORD = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(WORD, JSON, max_size=3), max_size=4))
async def test_documents_arrive_as_they_were_and_then_the_end(sent: list[dict[str, Any]]) -> None:
    ours, theirs = socket.socketpair()
    here, there = await Channel.over(ours), await Channel.over(theirs)
    for message in sent:
        here.send(message)
    await here.flush()
    here.close()
    here.send({"nobody": "hears this"})
    assert [await there.receive() for _ in sent] == sent
    assert await there.receive() is None
    there.close()


@pytest.mark.parametrize("octets", [b"\xff\xff\xff\xff", b"\0\0\0\2{]"])
async def test_nonsense_is_told_from_the_end(octets: bytes) -> None:
    ours, theirs = socket.socketpair()
    there = await Channel.over(theirs)
    with ours:
        ours.sendall(octets)
        with pytest.raises(ValueError, match=r"too large|unexpected|object key"):
            await there.receive()
    there.close()


async def test_a_document_that_is_cut_is_the_end() -> None:
    ours, theirs = socket.socketpair()
    there = await Channel.over(theirs)
    ours.sendall((100).to_bytes(4) + b'{"is":"')
    ours.close()
    assert await there.receive() is None
    there.close()
