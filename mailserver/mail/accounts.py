"""Accounts, domains and aliases."""

from collections.abc import Sequence

from mailserver.address import normal_domain, parse_address, path_text
from mailserver.errors import AlreadyExists, ConfigurationError, NotFound
from mailserver.mail import identities
from mailserver.mail.context import Change, Mail
from mailserver.model import Account, AccountId, ChangeKind, MailboxId, Role
from mailserver.storage import accounts, mailboxes, push, tickets

# What a new account finds; the names are those that clients look for when they know no roles.
FIRST_MAILBOXES: tuple[tuple[str, Role], ...] = (
    ("INBOX", Role.INBOX),
    ("Drafts", Role.DRAFTS),
    ("Sent", Role.SENT),
    ("Archive", Role.ARCHIVE),
    ("Junk", Role.JUNK),
    ("Trash", Role.TRASH),
)


async def get(mail: Mail, account: AccountId) -> Account:
    """Return an account by id; NotFound."""
    found = await accounts.by_id(mail.database, account)
    if found is None:
        raise NotFound("account")
    return found


async def find(mail: Mail, login: str) -> Account:
    """Return an account by login, in any case; NotFound."""
    found = await accounts.by_login(mail.database, str(parse_address(login)))
    if found is None:
        raise NotFound("account")
    return found


async def list_all(mail: Mail) -> list[Account]:
    """Return every account by login."""
    return await accounts.everyone(mail.database)


async def create(
    mail: Mail,
    login: str,
    *,
    name: str = "",
    password: str | None,
    quota: int | None = None,
    aliases: Sequence[str] = (),
) -> Account:
    """Make an account with its first mailboxes and further addresses; all domains must be ours."""
    address = parse_address(login)
    others = [parse_address(alias) for alias in aliases]
    for domain in {address.domain, *(other.domain for other in others)}:
        if not await accounts.domain_exists(mail.database, domain):
            raise NotFound(f"domain {domain}")
    hashed = None if password is None else await mail.passwords.hash(password)
    keys = None if password is None else await mail.passwords.scram_keys(password)
    account = AccountId(mail.ids.next())
    async with mail.database.transaction() as tx:
        now = mail.now()
        if await accounts.by_address(tx, [str(address)]):
            raise AlreadyExists(f"{address} leads to another account")
        if not await accounts.insert(tx, account, str(address), name, hashed, keys, quota, now):
            raise AlreadyExists(str(address))
        for other in others:
            if not await accounts.insert_address(tx, str(other), account):
                raise AlreadyExists(str(other))
        modseq = await accounts.next_modseq(tx, account)
        assert modseq is not None
        change = Change(tx, account, modseq, now)
        for leaf, role in FIRST_MAILBOXES:
            mailbox = MailboxId(mail.ids.next())
            await mailboxes.insert(tx, account, mailbox, None, leaf, role, modseq, subscribed=True)
            change.report(ChangeKind.MAILBOX_CREATED, mailbox)
        await identities.follow_addresses(change, mail, name)
        await change.write()
    mail.directory.forget()
    return await get(mail, account)


async def set_password(mail: Mail, login: str, password: str) -> None:
    """Give an account a new password; NotFound."""
    hashed = await mail.passwords.hash(password)
    keys = await mail.passwords.scram_keys(password)
    name = str(parse_address(login))
    async with mail.database.transaction() as tx:
        if not await accounts.set_password(tx, name, hashed, keys):
            raise NotFound("account")
        found = await accounts.by_login(tx, name)
        assert found is not None
        # what was made with the old password ends with it (RFC 8620 §7.2)
        await push.delete_all(tx, found.id)
        await tickets.delete_all(tx, found.id)


async def add_domain(mail: Mail, name: str) -> None:
    """Take mail for a domain; AlreadyExists."""
    if not await accounts.insert_domain(mail.database, normal_domain(name), mail.now()):
        raise AlreadyExists(name)
    mail.directory.forget()


async def list_domains(mail: Mail) -> list[str]:
    """Return the domains this server takes mail for."""
    return await accounts.domains(mail.database)


async def add_alias(mail: Mail, address: str, login: str) -> None:
    """Let an address, or `@domain` for all that is left, lead to an account."""
    normal = await _own(mail, address)
    account = await find(mail, login)
    async with mail.change(account.id) as change:
        if not await accounts.insert_address(change.tx, normal, account.id):
            raise AlreadyExists(normal)
        await identities.follow_addresses(change, mail, account.name)
    mail.directory.forget()


async def add_forward(mail: Mail, address: str, target: str) -> None:
    """Let an address, or `@domain` for all that is left, lead to one on another server."""
    normal = await _own(mail, address)
    wanted = parse_address(target)
    if await accounts.domain_exists(mail.database, wanted.domain):
        raise NotFound(f"account {target}")
    if not mail.config.server.secret_key.current():
        raise ConfigurationError("server.secret_key is not set: nothing can be forwarded")
    if not await accounts.insert_forward(mail.database, normal, path_text(target, wanted)):
        raise AlreadyExists(normal)
    mail.directory.forget()


async def remove_forward(mail: Mail, address: str, target: str) -> None:
    """Let an address no longer lead to one on another server; NotFound."""
    normal = _normal(address)
    if not await accounts.delete_forward(mail.database, normal, target.strip()):
        raise NotFound(f"{normal} leading to {target}")
    mail.directory.forget()


async def is_here(mail: Mail, target: str) -> bool:
    """Tell whether the domain of an address is one of this server's."""
    return await accounts.domain_exists(mail.database, parse_address(target).domain)


def _normal(address: str) -> str:
    domain = address.rpartition("@")[2]
    return f"@{normal_domain(domain)}" if address.startswith("@") else str(parse_address(address))


async def _own(mail: Mail, address: str) -> str:
    """Return an address here in its normal form; NotFound when its domain is not ours."""
    normal = _normal(address)
    domain = normal.rpartition("@")[2]
    if not await accounts.domain_exists(mail.database, domain):
        raise NotFound(f"domain {domain}")
    return normal


async def list_aliases(mail: Mail) -> list[tuple[str, str]]:
    """Return all (address, login or address elsewhere) pairs beyond each account's own login."""
    found = await accounts.aliases(mail.database) + await accounts.forwards(mail.database)
    return sorted(found)
