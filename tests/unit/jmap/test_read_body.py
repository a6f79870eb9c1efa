"""A request body is read whole, within its size and its time."""

import asyncio
from typing import Any

import pytest

from mailserver.jmap.protocol.errors import RequestError
from mailserver.jmap.server.access import read_body


class Drip:
    """A peer that sends an octet every few milliseconds."""

    def __init__(self, octets: int) -> None:
        self.left = octets

    async def __call__(self) -> dict[str, Any]:
        await asyncio.sleep(0.002)
        self.left -= 1
        return {"type": "http.request", "body": b"x", "more_body": self.left > 0}


async def test_a_slow_body_that_comes_in_time_is_read() -> None:
    assert await read_body(Drip(5), {}, 100, "size", 10) == b"xxxxx"


async def test_a_body_that_drips_in_without_end_is_refused() -> None:
    with pytest.raises(RequestError) as refused:
        await read_body(Drip(10**9), {}, 10**9, "size", 0.1)
    assert refused.value.status == 408


async def test_a_body_over_its_size_is_refused() -> None:
    with pytest.raises(RequestError) as refused:
        await read_body(Drip(10**9), {}, 10, "size", 10)
    assert refused.value.status == 413
