"""Search text that is made in another process is what would be made here."""

import asyncio
import os
import sys
from collections.abc import Sequence

import pytest
import zstandard

from mailserver.app.search_process import FEW, NICE, SearchProcesses
from mailserver.errors import Corrupt
from mailserver.mail.frames import compared
from mailserver.mail.makers import MakerEnded, Threads
from mailserver.mail.making import Given
from mailserver.mail.vocabulary import Vocabulary, sought

ENDS = [sys.executable, "-c", ""]
NEVER_ANSWERS = [sys.executable, "-c", "import time; time.sleep(600)"]
MANY = FEW + 5


def message(number: int) -> bytes:
    body = f"<p>body {number} of <b>w\u00f6rds</b> &amp; more</p>" * (number % 7)
    return (
        f"From: =?utf-8?q?J=C3=BCrgen?= <j{number}@example.test>\r\nSubject: n{number}\r\n"
        f"Content-Type: text/html; charset=utf-8\r\n\r\n{body}\r\n"
    ).encode()


def given(count: int) -> list[Given]:
    pack = zstandard.ZstdCompressor().compress
    plain = [message(number) for number in range(count)]
    return [Given(n, pack(raw) if n % 2 else raw, bool(n % 2)) for n, raw in enumerate(plain)]


def told(ids: Sequence[int], packed: bytes) -> list[Sequence[int]]:
    """What words say of some texts; their order is another in each process."""
    known = Vocabulary(ids, (), packed)
    texts = ("n1", "rgen", "j20", "body", "absent")
    pieces = [each for text in texts if (each := sought(compared(text))) is not None]
    return [known.matching(each, everywhere=place) for each in pieces for place in (False, True)]


async def test_another_process_makes_the_same() -> None:
    processes, threads = SearchProcesses(), Threads()
    messages = given(MANY)
    try:
        for awaited in (False, True):
            made = await processes.index(messages, awaited=awaited)
            here = await threads.index(messages, awaited=awaited)
            [(*texts, words)], [(*same, same_words)] = made.frames, here.frames
            assert (texts, made.unread) == (same, [])
            assert told(range(MANY), words) == told(range(MANY), same_words)
            there = [(email_id, set(words.split())) for email_id, words in made.words]
            assert there == [(email_id, set(words.split())) for email_id, words in here.words]
        found = told(*await processes.vocabulary(messages))
        assert found == told(*await threads.vocabulary(messages)) != [()] * len(found)
        assert 0 < processes.spare <= 1
        first, second = processes.running
        mine = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, first) == min(mine + NICE, 19)
        assert os.getpriority(os.PRIO_PROCESS, second) == mine
    finally:
        await processes.close()
    assert processes.running == []


async def test_little_is_made_here() -> None:
    processes = SearchProcesses(NEVER_ANSWERS)
    assert len((await processes.index(given(FEW), awaited=False)).words) == FEW
    assert len((await processes.vocabulary(given(FEW)))[0]) == FEW
    assert processes.running == []
    await processes.close()
    assert len((await processes.index(given(MANY), awaited=False)).words) == MANY


async def test_without_a_process_it_is_made_here() -> None:
    processes = SearchProcesses(["/no/such/program"])
    assert len((await processes.index(given(MANY), awaited=False)).words) == MANY
    assert len((await processes.vocabulary(given(MANY)))[0]) == MANY
    await processes.close()


async def test_octets_that_were_not_stored_so() -> None:
    processes = SearchProcesses()
    messages = [*given(MANY), Given(99, b"no zstd", True)]
    try:
        made = await processes.index(messages, awaited=False)
        assert (made.unread, made.words[-1]) == ([99], (99, ""))
        assert [each for frame in made.frames for each in frame.email_ids] == list(range(MANY))
        with pytest.raises(Corrupt):
            await processes.vocabulary(messages)
        assert (await processes.vocabulary(messages[:-1]))[0] == list(range(MANY))
    finally:
        await processes.close()


async def test_one_that_ends_early_is_told_and_started_again() -> None:
    processes = SearchProcesses(ENDS)
    for _ in range(2):
        with pytest.raises(MakerEnded):
            await processes.index(given(MANY), awaited=False)
        assert processes.running == []
    await processes.close()


async def test_who_waits_at_the_end_is_told() -> None:
    processes = SearchProcesses(NEVER_ANSWERS)
    waiting = asyncio.create_task(processes.index(given(MANY), awaited=False))
    async with asyncio.timeout(30):
        while not processes.running:
            await asyncio.sleep(0)
        await processes.close()
        with pytest.raises(MakerEnded):
            await waiting
    assert processes.running == []


async def test_a_process_without_work_ends() -> None:
    processes = SearchProcesses(linger=0)
    messages = given(MANY)
    await processes.index(messages, awaited=False)
    async with asyncio.timeout(30):
        while processes.running:
            await asyncio.sleep(0)
    assert len((await processes.index(messages, awaited=False)).words) == MANY
    await processes.close()
