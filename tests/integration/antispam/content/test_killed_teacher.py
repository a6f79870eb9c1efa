"""A process that learns is killed again and again: each lesson counts once all the same."""

import asyncio
import contextlib
import random
import sys

from mailserver.antispam.content.model import SERVER_BITS, Counts, Lesson, delta_of
from mailserver.antispam.content.models import Models
from mailserver.mail import messages
from mailserver.mail.context import Mail
from mailserver.model import Account, Role
from mailserver.storage import lessons as lesson_table
from mailserver.storage import spam_models
from tests.integration.antispam.content.test_lessons import (
    RAW,
    boxes,
    deliver,
    features_of,
    teacher,
)

LESSONS = 120
BLOCKED = "SELECT count(*) FROM pg_locks WHERE NOT granted"


async def victim(dsn: str) -> asyncio.subprocess.Process:
    """Start a process that learns, and is about to begin."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.spam_teacher", dsn, "victim",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert started.stdout is not None
    assert await started.stdout.readline() == b"begins\n"
    return started


async def test_a_killed_process_neither_loses_nor_doubles_a_lesson(
    mail: Mail, alice: Account, dsn: str
) -> None:
    place = await boxes(mail, alice)
    inbox, junk = place[Role.INBOX].id, place[Role.JUNK].id
    uids = [(await deliver(mail, alice, RAW % number))[1] for number in range(LESSONS)]
    for at in range(0, LESSONS, 10):
        await messages.move(mail, alice.id, inbox, uids[at : at + 10], junk)
    async with mail.database.transaction() as tx:
        await spam_models.lock(tx, spam_models.SERVER)
        first = await victim(dsn)
        async with asyncio.timeout(60):
            while not await mail.database.fetchval(BLOCKED):  # in the middle of its first lessons
                await asyncio.sleep(0.01)
        first.kill()
        await first.wait()
    assert await lesson_table.waiting(mail.database) == LESSONS
    chance = random.Random(7)
    for _ in range(6):  # others at any moment, as long as there is something to learn
        if not await lesson_table.waiting(mail.database):
            break
        another = await victim(dsn)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0.02, 0.4)):
                await another.wait()
        if another.returncode is None:
            another.kill()
        await another.wait()
    models = Models(mail.database)
    await teacher(mail, models, "survivor").once()
    assert await lesson_table.waiting(mail.database) == 0
    await models.refresh()
    expected = Counts(SERVER_BITS)
    lessons = [Lesson(features_of(RAW % number), spam=True) for number in range(LESSONS)]
    expected.add(delta_of(lessons, SERVER_BITS))
    assert models.server.spam_lessons == LESSONS
    assert models.server.pack() == expected.pack()
