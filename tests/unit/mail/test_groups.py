"""Which of the messages that wait are committed together."""

import asyncio
from datetime import UTC, datetime

import pytest

from mailserver.mail import groups
from mailserver.mail.delivery import Arrival, Sealed, Target
from mailserver.mail.groups import MAX_MESSAGES, Waiting
from mailserver.mime import digest
from mailserver.model import AccountId, BlobId

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def arrival(*accounts: int, size: int = 10) -> Arrival:
    raw = bytes(size)
    return Arrival(
        raw,
        digest(raw),
        Sealed(BlobId(b""), b"", b""),
        tuple(Target(AccountId(account)) for account in accounts),
        None,
        NOW,
        False,
        asyncio.get_running_loop().create_future(),
    )


def added(waiting: Waiting, *arrivals: Arrival) -> None:
    for each in arrivals:
        waiting.add(each)


async def test_an_account_is_in_one_commit_at_a_time() -> None:
    waiting = Waiting()
    first, same, both, other = arrival(1), arrival(1), arrival(1, 2), arrival(3)
    assert waiting.add(first)
    taken = waiting.take()
    assert taken == [first]
    assert not waiting.add(same)
    assert not waiting.add(both)
    assert waiting.add(other)
    assert waiting.take() == [other]
    assert waiting.take() == []
    assert len(waiting) == 2
    waiting.release(taken)
    assert waiting.take() == [same, both]
    assert len(waiting) == 0


async def test_what_is_for_nobody_here_waits_for_no_account() -> None:
    waiting = Waiting()
    out = [arrival(), arrival()]
    waiting.add(out[0])
    assert waiting.take() == out[:1]
    assert waiting.add(out[1])
    assert waiting.take() == out[1:]


async def test_a_commit_has_a_number_of_messages() -> None:
    waiting = Waiting()
    every = [arrival(1) for _ in range(MAX_MESSAGES + 3)]
    added(waiting, *every)
    taken = waiting.take()
    assert taken == every[:MAX_MESSAGES]
    waiting.release(taken)
    assert waiting.take() == every[MAX_MESSAGES:]


async def test_a_commit_has_a_size_unless_one_message_is_larger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(groups, "MAX_BYTES", 100)
    waiting = Waiting()
    every = [arrival(1, size=101), arrival(2, size=60), arrival(3, size=40), arrival(4, size=1)]
    added(waiting, *every)
    assert waiting.take() == every[:1]
    assert waiting.take() == every[1:3]
    assert waiting.take() == every[3:]
