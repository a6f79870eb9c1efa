"""Plays every transcript beside this file, with the accounts alice and bob and an alias."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mailserver.mail import accounts
from mailserver.mail.context import Mail
from mailserver.model import Account

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
async def test_transcript(
    mail: Mail, alice: Account, bob: Account, play: Callable[[Path], Awaitable[int]], path: Path
) -> None:
    await accounts.add_alias(mail, "postmaster@example.test", "alice@example.test")
    await accounts.add_alias(mail, "team@example.test", "alice@example.test")
    await accounts.add_alias(mail, "team@example.test", "bob@example.test")
    assert await play(path) > 0


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 5
