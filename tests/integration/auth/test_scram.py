"""Logins that prove a password and do not tell it."""

import pytest

from mailserver.auth import sasl
from mailserver.auth.credentials import Authenticator
from mailserver.auth.sasl import Challenge, Terms
from mailserver.errors import AuthenticationFailed
from mailserver.mail import accounts
from mailserver.mail.context import Mail
from mailserver.model import Account, Principal
from tests.scram_client import ScramClient

PASSWORD = "correct horse"
PEER = "192.0.2.1"


async def exchange(mail: Mail, login: str, password: str) -> Principal:
    authenticator = Authenticator(mail.database, passwords=mail.passwords)
    client, mechanism = ScramClient(login, password), sasl.start("SCRAM-SHA-256", Terms())
    assert mechanism is not None
    answers = iter((client.final, client.end))
    response = client.first()
    while isinstance(
        outcome := await authenticator.proceed(mechanism, response, peer=PEER), Challenge
    ):
        response = next(answers)(outcome.data)
    assert isinstance(outcome, Principal)
    return outcome


async def test_a_password_is_proven_until_it_changes(mail: Mail, alice: Account) -> None:
    principal = Principal(alice.id, alice.login)
    assert await exchange(mail, "Alice@EXAMPLE.test", PASSWORD) == principal
    await accounts.set_password(mail, alice.login, "battery staple")
    assert await exchange(mail, alice.login, "battery staple") == principal
    with pytest.raises(AuthenticationFailed):
        await exchange(mail, alice.login, PASSWORD)


async def test_a_password_that_changes_meanwhile_proves_nothing(mail: Mail, alice: Account) -> None:
    authenticator = Authenticator(mail.database, passwords=mail.passwords)
    client, mechanism = ScramClient(alice.login, PASSWORD), sasl.start("SCRAM-SHA-256", Terms())
    assert mechanism is not None
    asked = await authenticator.proceed(mechanism, client.first(), peer=PEER)
    assert isinstance(asked, Challenge)
    await accounts.set_password(mail, alice.login, "battery staple")
    proven = await authenticator.proceed(mechanism, client.final(asked.data), peer=PEER)
    assert isinstance(proven, Challenge)
    with pytest.raises(AuthenticationFailed):
        await authenticator.proceed(mechanism, client.end(proven.data), peer=PEER)


async def test_nobody_is_told_whether_a_login_exists(mail: Mail, alice: Account) -> None:
    authenticator = Authenticator(mail.database, passwords=mail.passwords)

    async def salt(login: str) -> bytes:
        mechanism = sasl.start("SCRAM-SHA-256", Terms())
        assert mechanism is not None
        first = ScramClient(login, "").first()
        outcome = await authenticator.proceed(mechanism, first, peer=PEER)
        assert isinstance(outcome, Challenge)
        return outcome.data.split(b",", 1)[1]

    assert len(await salt("nobody@example.test")) == len(await salt(alice.login))
    assert await salt("nobody@example.test") == await salt("nobody@example.test")
    with pytest.raises(AuthenticationFailed):
        await exchange(mail, "nobody@example.test", PASSWORD)


async def test_a_disabled_account_proves_nothing(mail: Mail, alice: Account) -> None:
    await mail.database.execute("UPDATE account SET enabled = false WHERE id = $1", alice.id)
    with pytest.raises(AuthenticationFailed):
        await exchange(mail, alice.login, PASSWORD)
