"""Connections that read single messages at one moment share statements."""

import asyncio
from collections.abc import Sequence

import pytest

from mailserver.errors import Corrupt
from mailserver.mail.readings import MOST, Readings
from mailserver.model import AccountId, EmailId

ALICE, BOB = AccountId(1), AccountId(2)
DAMAGED, GONE = 13, 99


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine be slow."""
    monkeypatch.setattr("mailserver.mail.readings.PATIENCE", 600.0)


class Store:
    """Answers when it may, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[AccountId, list[int]]] = []
        self.go_on = asyncio.Event()

    async def read(self, account: AccountId, ids: Sequence[int]) -> dict[EmailId, bytes]:
        self.asked.append((account, sorted(ids)))
        await self.go_on.wait()
        if DAMAGED in ids:
            raise Corrupt("a message")
        return {EmailId(each): b"%d" % each for each in ids if each != GONE}


def ask(readings: Readings, account: AccountId, email: int) -> "asyncio.Task[bytes | None]":
    async def octets() -> bytes | None:
        return (await readings.message(account, email)).get(EmailId(email))

    return asyncio.create_task(octets())


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_comes_while_one_reads_is_served_by_the_next_statement() -> None:
    store = Store()
    readings = Readings(store.read)
    tasks = [ask(readings, ALICE, email) for email in (1, 2, 3, 2, GONE)]
    other = ask(readings, BOB, 1)
    await turn()
    assert store.asked == [(ALICE, [1]), (BOB, [1])]
    store.go_on.set()
    assert await asyncio.gather(*tasks, other) == [b"1", b"2", b"3", b"2", None, b"1"]
    assert store.asked[2:] == [(ALICE, [2, 3, GONE])]
    assert await ask(readings, ALICE, 4) == b"4"  # and then it begins anew
    assert store.asked[3:] == [(ALICE, [4])]


async def test_a_statement_is_for_a_bounded_number() -> None:
    store = Store()
    readings = Readings(store.read)
    tasks = [ask(readings, ALICE, 100 + each) for each in range(2 * MOST + 2)]
    await turn()
    store.go_on.set()
    assert await asyncio.gather(*tasks) == [b"%d" % (100 + each) for each in range(2 * MOST + 2)]
    assert [len(ids) for _, ids in store.asked] == [1, MOST, MOST, 1]


async def test_a_message_that_is_damaged_is_nobody_elses_trouble() -> None:
    store = Store()
    readings = Readings(store.read)
    tasks = [ask(readings, ALICE, email) for email in (1, 2, DAMAGED, 3)]
    await turn()
    store.go_on.set()
    first, second, damaged, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, second, third) == (b"1", b"2", b"3")
    assert isinstance(damaged, Corrupt)
    failing = ask(readings, ALICE, DAMAGED)
    with pytest.raises(Corrupt):
        await failing
    assert await ask(readings, ALICE, 1) == b"1"


@pytest.mark.parametrize("cut", [0, 1])
async def test_who_no_longer_waits_holds_up_nobody(cut: int) -> None:
    store = Store()
    readings = Readings(store.read)
    tasks = [ask(readings, ALICE, email) for email in (1, 2, 3)]
    await turn()
    tasks[cut].cancel()
    await turn()
    store.go_on.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[cut], asyncio.CancelledError)
    assert [each for at, each in enumerate(found) if at != cut] == [
        b"%d" % email for at, email in enumerate((1, 2, 3)) if at != cut
    ]


async def test_a_statement_that_takes_long_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mailserver.mail.readings.PATIENCE", 0.0)
    store = Store()
    readings = Readings(store.read)
    tasks = [ask(readings, ALICE, email) for email in (1, 2, 3)]
    await turn()
    assert store.asked == [(ALICE, [1]), (ALICE, [2]), (ALICE, [3])]
    store.go_on.set()
    assert await asyncio.gather(*tasks) == [b"1", b"2", b"3"]
