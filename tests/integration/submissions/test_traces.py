"""What is written down of submissions, for those who ask later."""

import pytest

from mailserver.antispam import trace
from mailserver.antispam.trace import Journal, Told
from mailserver.cli.trace import story_in_words
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.submissions.conftest import client_of
from tests.integration.submissions.mailing import draft, letter, submit


@pytest.fixture
def journal(mail: Mail) -> Journal:
    return Journal(mail.database, mail.ids, mail.metrics, mail.now)


async def told(journal: Journal, mail: Mail, word: str) -> Told:
    await journal.flush()
    (found,) = await trace.find(mail.database, trace.keys_of(word), 10)
    return found


async def test_a_submission_is_found_as_one_by_smtp_is(
    mail: Mail, alice: Account, bob: Account, journal: Journal
) -> None:
    email = await draft(mail, alice, letter("bob@example.test, carol@example.org"))
    answer = await submit(client_of(mail, alice, journal), email)
    submission = answer["created"]["new"]["id"]
    found = await told(journal, mail, "<m1@example.test>")
    for word in (alice.login, bob.login, "carol@example.org", str(found.story["stored"])):
        assert (await told(journal, mail, word)).id == found.id
    assert str(found.story["stored"]).startswith("q")
    assert story_in_words(found)[1:] == [
        "  From 127.0.0.1, logged in as alice@example.test, without TLS.",
        "  Sender <alice@example.test>, recipients <bob@example.test>, <carol@example.org>, "
        f"{found.story['size']} bytes.",
        "  Message-ID <m1@example.test>.",
        "  Accepted after the message was received.",
        f"  The other side was told: EmailSubmission {submission} created",
        "  bob@example.test has it in INBOX.",
    ]


async def test_a_submission_that_is_refused_is_found_too(
    mail: Mail, alice: Account, journal: Journal
) -> None:
    email = await draft(mail, alice, letter("nobody@example.test"))
    answer = await submit(client_of(mail, alice, journal), email)
    assert answer["notCreated"]["new"]["type"] == "invalidRecipients"
    found = await told(journal, mail, alice.login)
    assert found.story["action"] == "refused"
    assert found.story["reply"] == "EmailSubmission not created: invalidRecipients"
