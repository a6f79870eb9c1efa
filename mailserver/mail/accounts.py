"""Accounts, domains and aliases."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from mailserver.address import normal_domain, parse_address, path_text
from mailserver.errors import AlreadyExists, ConfigurationError, InUse, NotFound
from mailserver.mail import identities
from mailserver.mail.context import Change, Mail
from mailserver.mail.rights import tell_shares
from mailserver.model import Account, AccountId, ChangeKind, MailboxId, Role
from mailserver.storage import accounts, mailboxes, push, tickets
from mailserver.storage.database import Executor

SHOWN = 5  # addresses that keep a domain from being removed
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
    name = str(parse_address(login))
    found = await accounts.by_login(mail.database, name)
    if found is None:
        raise NotFound(f"there is no account {name}")
    return found


async def is_enabled(mail: Mail, account: AccountId) -> bool:
    """Tell whether an account is there and may be used."""
    found = await accounts.by_id(mail.database, account)
    return found is not None and found.enabled


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
    await _demand_domains(mail.database, address, *others)  # before the password costs anything
    hashed = None if password is None else await mail.passwords.hash(password)
    keys = None if password is None else await mail.passwords.scram_keys(password)
    account = AccountId(mail.ids.next())
    async with mail.database.transaction() as tx:
        now = mail.now()
        await _demand_domains(tx, address, *others)
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


async def rename(mail: Mail, login: str, new: str, *, keep: bool = True) -> Account:
    """Give an account another login, which is an address of it too; what it has stays.

    `keep`: the old login stays an address. Raises NotFound, AlreadyExists when the new one leads to
    another account.
    """
    account = await find(mail, login)
    address = parse_address(new)
    if str(address) == account.login:
        raise AlreadyExists(f"the login is {account.login} already")
    async with _altered(mail, account.id) as change:
        tx = change.tx
        await _demand_domains(tx, address)
        leads = await accounts.by_address(tx, [str(address)])
        if any(other.id != account.id for _, other in leads):
            raise AlreadyExists(f"{address} leads to another account")
        if not await accounts.set_login(tx, account.id, str(address)):
            raise AlreadyExists(f"{address} is the login of another account")
        await accounts.insert_address(tx, str(address), account.id)
        if not keep:
            await accounts.delete_address(tx, account.login, account.id)
        await identities.follow_addresses(change, mail, account.name)
        # what was made under the old login ends with it
        await push.delete_all(tx, account.id)
        await tickets.delete_all(tx, account.id)
    mail.directory.forget()
    tell_shares(mail, None)  # others see what is shared with them under the login
    return await get(mail, account.id)


async def set_password(mail: Mail, login: str, password: str) -> None:
    """Give an account a new password; NotFound."""
    hashed = await mail.passwords.hash(password)
    keys = await mail.passwords.scram_keys(password)
    name = str(parse_address(login))
    async with mail.database.transaction() as tx:
        if not await accounts.set_password(tx, name, hashed, keys):
            raise NotFound(f"there is no account {name}")
        found = await accounts.by_login(tx, name)
        assert found is not None
        # what was made with the old password ends with it (RFC 8620 §7.2)
        await push.delete_all(tx, found.id)
        await tickets.delete_all(tx, found.id)
    tell_shares(mail, found.id)  # who is connected by the old one is looked at now


async def add_domain(mail: Mail, name: str) -> None:
    """Take mail for a domain; AlreadyExists."""
    if not await accounts.insert_domain(mail.database, normal_domain(name), mail.now()):
        raise AlreadyExists(name)
    mail.directory.forget()


async def remove_domain(mail: Mail, name: str) -> None:
    """Take no more mail for a domain; its keys go too. NotFound, InUse while it has addresses."""
    domain = normal_domain(name)
    async with mail.database.transaction() as tx:
        if not await accounts.delete_domain(tx, domain):
            raise NotFound(f"there is no domain {domain}")
        # after the row is locked: whoever adds an address now waits, and finds no domain then
        left = await accounts.in_domain(tx, domain, SHOWN + 1)
        if left:
            more = ", ..." if len(left) > SHOWN else ""
            raise InUse(f"{domain} still has {', '.join(left[:SHOWN])}{more}")
    mail.directory.forget()


async def list_domains(mail: Mail) -> list[str]:
    """Return the domains this server takes mail for."""
    return await accounts.domains(mail.database)


async def add_alias(mail: Mail, address: str, login: str) -> None:
    """Let an address, or `@domain` for all that is left, lead to an account."""
    normal = await _own(mail, address)
    account = await find(mail, login)
    async with mail.change(account.id) as change:
        await _demand_domains(change.tx, normal)
        if not await accounts.insert_address(change.tx, normal, account.id):
            raise AlreadyExists(normal)
        await identities.follow_addresses(change, mail, account.name)
    mail.directory.forget()


async def remove_alias(mail: Mail, address: str, login: str) -> None:
    """Let an address no longer lead to an account; NotFound, InUse when it is the login."""
    normal = _normal(address)
    account = await find(mail, login)
    if normal == account.login:
        raise InUse(f"{normal} is the login: `mailserver account rename` gives another one")
    async with _altered(mail, account.id) as change:
        if not await accounts.delete_address(change.tx, normal, account.id):
            raise NotFound(f"{normal} leading to {account.login}")
        await identities.follow_addresses(change, mail, account.name)
    mail.directory.forget()


async def add_forward(mail: Mail, address: str, target: str) -> None:
    """Let an address, or `@domain` for all that is left, lead to one on another server."""
    normal = await _own(mail, address)
    wanted = parse_address(target)
    if await accounts.domain_exists(mail.database, wanted.domain):
        raise NotFound(f"there is no account {target}")
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


@asynccontextmanager
async def _altered(mail: Mail, account: AccountId) -> AsyncIterator[Change]:
    """Change what is no mail of an account: committed also when there is nothing to log."""
    async with mail.database.transaction() as tx:
        modseq = await accounts.next_modseq(tx, account)
        if modseq is None:
            raise NotFound("the account is gone")
        change = Change(tx, account, modseq, mail.now())
        yield change
        await change.write()
    mail.events.publish(account, modseq)


async def _demand_domains(tx: Executor, *addresses: object) -> None:
    """Raise NotFound when one of the domains is not ours; in a transaction none goes meanwhile."""
    wanted = {str(each).rpartition("@")[2] for each in addresses}
    missing = wanted - await accounts.claim_domains(tx, sorted(wanted))
    if missing:
        raise NotFound(f"there is no domain {min(missing)} here")


async def is_here(mail: Mail, target: str) -> bool:
    """Tell whether the domain of an address is one of this server's."""
    return await accounts.domain_exists(mail.database, parse_address(target).domain)


def _normal(address: str) -> str:
    domain = address.rpartition("@")[2]
    return f"@{normal_domain(domain)}" if address.startswith("@") else str(parse_address(address))


async def _own(mail: Mail, address: str) -> str:
    """Return an address here in its normal form; NotFound when its domain is not ours."""
    normal = _normal(address)
    await _demand_domains(mail.database, normal)
    return normal


async def list_aliases(mail: Mail) -> list[tuple[str, str]]:
    """Return all (address, login or address elsewhere) pairs beyond each account's own login."""
    found = await accounts.aliases(mail.database) + await accounts.forwards(mail.database)
    return sorted(found)
