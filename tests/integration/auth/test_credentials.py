"""Logins against the stored hashes."""

import pytest
from argon2 import PasswordHasher

from mailserver.auth.credentials import CACHE_TIME, FRESH_TIME, Authenticator
from mailserver.auth.passwords import Passwords
from mailserver.errors import AuthenticationFailed
from mailserver.mail import accounts
from mailserver.mail.context import Mail
from mailserver.model import Account, Principal

PASSWORD = "correct horse"
PEER = "192.0.2.1"


class Counting(Passwords):
    """Counts how often a hash was really computed."""

    def __init__(self) -> None:
        super().__init__(1)
        self.verified = 0

    async def verify(self, stored: str | None, password: str) -> bool:
        self.verified += 1
        return await super().verify(stored, password)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_verified_password_is_remembered_until_it_changes(
    mail: Mail, alice: Account
) -> None:
    counting, clock = Counting(), Clock()
    authenticator = Authenticator(mail.database, passwords=counting, monotonic=clock)
    for login in ("alice@example.test", "Alice@EXAMPLE.test", "alice@example.test"):
        found = await authenticator.verify(login, PASSWORD, peer=PEER)
        assert found == Principal(alice.id, "alice@example.test")
    assert counting.verified == 1
    clock.now = CACHE_TIME + 1
    await authenticator.verify("alice@example.test", PASSWORD, peer=PEER)
    assert counting.verified == 2
    await accounts.set_password(mail, "alice@example.test", "battery staple")
    clock.now += FRESH_TIME
    with pytest.raises(AuthenticationFailed):
        await authenticator.verify("alice@example.test", PASSWORD, peer=PEER)
    await authenticator.verify("alice@example.test", "battery staple", peer=PEER)
    counting.close()


async def test_a_disabled_account_cannot_log_in_though_it_was_remembered(
    mail: Mail, alice: Account
) -> None:
    clock = Clock()
    authenticator = Authenticator(mail.database, passwords=mail.passwords, monotonic=clock)
    await authenticator.verify("alice@example.test", PASSWORD, peer=PEER)
    await mail.database.execute("UPDATE account SET enabled = false WHERE id = $1", alice.id)
    clock.now = FRESH_TIME
    with pytest.raises(AuthenticationFailed):
        await authenticator.verify("alice@example.test", PASSWORD, peer=PEER)


@pytest.mark.parametrize("login", ["nobody@example.test", "", "\0", "no address", "a" * 5000])
async def test_unknown_logins_cost_a_verification(mail: Mail, alice: Account, login: str) -> None:
    counting = Counting()
    authenticator = Authenticator(mail.database, passwords=counting)
    with pytest.raises(AuthenticationFailed):
        await authenticator.verify(login, PASSWORD, peer=PEER)
    assert counting.verified == 1
    counting.close()


async def test_an_account_without_a_password_cannot_log_in(mail: Mail) -> None:
    await accounts.create(mail, "shared@example.test", password=None)
    authenticator = Authenticator(mail.database, passwords=mail.passwords)
    with pytest.raises(AuthenticationFailed):
        await authenticator.verify("shared@example.test", "", peer=PEER)


async def test_an_old_hash_is_renewed(mail: Mail, alice: Account) -> None:
    old = PasswordHasher(1, 8, 1).hash(PASSWORD)
    await mail.database.execute("UPDATE account SET password = $2 WHERE id = $1", alice.id, old)
    authenticator = Authenticator(mail.database, passwords=mail.passwords)
    await authenticator.verify("alice@example.test", PASSWORD, peer=PEER)
    stored = await mail.database.fetchval("SELECT password FROM account WHERE id = $1", alice.id)
    assert not mail.passwords.needs_rehash(stored)
    await authenticator.verify("alice@example.test", PASSWORD, peer=PEER)
