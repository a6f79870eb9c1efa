"""Allow and deny lists of the server, of domains and of users."""

import pytest

from mailserver.address import Address
from mailserver.antispam.lists import Lists, subject_of
from mailserver.errors import Invalid
from mailserver.mail.context import Mail
from mailserver.model import Account, IdKind, id_text
from mailserver.storage import spam_lists
from mailserver.storage.spam_lists import Entry

GITLAB = Address("noreply", "mg.gitlab.com")


async def write(mail: Mail, *entries: tuple[str, str, str]) -> Lists:
    for entry in entries:
        await spam_lists.put(mail.database, Entry(*entry), mail.now())
    return Lists(mail.database, lambda: 0)


async def rule(lists: Lists, account: Account, sender: Address, verified: str) -> bool | None:
    found = await lists.about({account.id: "example.test"}, [sender], verified)
    return found[account.id].allowed if found else None


# smtp.md §6, 13: senders like GitLab stay in Junk whatever one teaches
async def test_an_allowed_domain_counts_only_when_dmarc_says_so(mail: Mail, alice: Account) -> None:
    lists = await write(mail, ("", "@gitlab.com", "allow"))
    assert await rule(lists, alice, GITLAB, "mg.gitlab.com") is True
    assert await rule(lists, alice, GITLAB, "") is None
    assert await rule(lists, alice, GITLAB, "evil.example") is None


async def test_the_user_counts_more_than_the_domain_and_that_more_than_the_server(
    mail: Mail, alice: Account, bob: Account
) -> None:
    lists = await write(
        mail,
        ("", "@gitlab.com", "deny"),
        ("@example.test", "@gitlab.com", "allow"),
        (id_text(IdKind.ACCOUNT, bob.id), "@gitlab.com", "deny"),
    )
    assert await rule(lists, alice, GITLAB, GITLAB.domain) is True
    assert await rule(lists, bob, GITLAB, GITLAB.domain) is False


async def test_an_address_counts_more_than_its_domain(mail: Mail, alice: Account) -> None:
    lists = await write(mail, ("", "@gitlab.com", "deny"), ("", str(GITLAB), "allow"))
    assert await rule(lists, alice, GITLAB, GITLAB.domain) is True


async def test_who_is_denied_need_not_prove_anything(mail: Mail, alice: Account) -> None:
    lists = await write(mail, ("", "@gitlab.com", "deny"))
    assert await rule(lists, alice, GITLAB, "") is False


async def test_networks_of_the_server(mail: Mail) -> None:
    lists = await write(
        mail,
        ("", "192.0.2.0/24", "deny"),
        ("", "192.0.2.5/32", "allow"),
        ("", "2001:db8::/32", "deny"),
    )
    shared = await lists.shared()

    def allowed(ip: str) -> bool | None:
        ruling = shared.client(ip)
        return ruling.allowed if ruling else None

    assert [allowed(ip) for ip in ("192.0.2.1", "192.0.2.5", "198.51.100.1")] == [False, True, None]
    assert allowed("2001:db8::9") is False
    assert allowed("unknown") is None


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("Example.ORG", "@example.org"),
        ("@example.org", "@example.org"),
        ("Carol@Example.org", "carol@example.org"),
    ],
)
def test_what_people_write(text: str, subject: str) -> None:
    assert subject_of(text) == subject


def test_what_is_no_subject() -> None:
    for text in ("", "org", "a b", "@"):
        with pytest.raises(Invalid):
            subject_of(text)
