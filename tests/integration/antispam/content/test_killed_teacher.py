"""A process that learns is killed again and again: each lesson counts once all the same."""

import asyncio
import random
import sys

from mailserver.antispam.content.model import SERVER_BITS, Counts, Lesson, delta_of
from mailserver.antispam.content.models import Models
from mailserver.mail import messages
from mailserver.mail.context import Mail
from mailserver.model import Account, Role
from mailserver.storage import lessons as lesson_table
from tests.integration.antispam.content.test_lessons import (
    RAW,
    boxes,
    deliver,
    features_of,
    teacher,
)

LESSONS = 120


async def test_a_killed_process_neither_loses_nor_doubles_a_lesson(
    mail: Mail, alice: Account, dsn: str
) -> None:
    place = await boxes(mail, alice)
    inbox, junk = place[Role.INBOX].id, place[Role.JUNK].id
    uids = [(await deliver(mail, alice, RAW % number))[1] for number in range(LESSONS)]
    for at in range(0, LESSONS, 10):
        await messages.move(mail, alice.id, inbox, uids[at : at + 10], junk)
    chance, kills = random.Random(7), 0
    while await lesson_table.waiting(mail.database) and kills < 6:
        victim = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.spam_teacher", dsn, "victim",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert victim.stdout is not None
        assert await victim.stdout.readline() == b"begins\n"
        try:
            async with asyncio.timeout(chance.uniform(0.02, 0.4)):
                await victim.wait()
        except TimeoutError:
            victim.kill()
            kills += 1
            await victim.wait()
    models = Models(mail.database)
    await teacher(mail, models, "survivor").once()
    assert await lesson_table.waiting(mail.database) == 0
    await models.refresh()
    expected = Counts(SERVER_BITS)
    lessons = [Lesson(features_of(RAW % number), spam=True) for number in range(LESSONS)]
    expected.add(delta_of(lessons, SERVER_BITS))
    assert kills
    assert models.server.spam_lessons == LESSONS
    assert models.server.pack() == expected.pack()
