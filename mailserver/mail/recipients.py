"""Which accounts an address leads to."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mailserver.address import Address
from mailserver.errors import NotFound
from mailserver.model import Account, AccountId
from mailserver.storage import accounts

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

CACHE_TIME = timedelta(seconds=2)  # an over-full account or a new alias is seen this much later
CACHE_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class Resolution:
    """What an address leads to: not `local`: another server's; local without all else: nobody."""

    local: bool
    accounts: tuple[Account, ...] = ()
    forwards: tuple[str, ...] = ()  # addresses on other servers that get a copy
    refuses: bool = False  # it is that of a disabled account which takes no mail

    @property
    def is_known(self) -> bool:
        """Whether somebody gets the mail."""
        return bool(self.accounts or self.forwards)


class Directory:
    """A short memory of resolved addresses: a burst of mail to one address asks once."""

    def __init__(self, mail: "Mail") -> None:
        self._mail = mail
        self._known: dict[Address, tuple[datetime, Resolution]] = {}

    def forget(self) -> None:
        """Forget everything, after a change made by this process."""
        self._known.clear()

    async def resolve(self, address: Address) -> Resolution:
        """Look an address up, in memory or in the database."""
        now = self._mail.now()
        known = self._known.get(address)
        if known is not None and known[0] > now:
            return known[1]
        resolution = await self._look_up(address)
        if len(self._known) >= CACHE_SIZE:
            self._known.clear()
        self._known[address] = (now + CACHE_TIME, resolution)
        return resolution

    async def _look_up(self, address: Address) -> Resolution:
        separator = self._mail.config.smtp.subaddress_separator
        # the most exact form that is known wins
        forms = [
            str(address),
            str(address.without_subaddress(separator)),
            f"@{address.domain}",
        ]
        found, forwards = await accounts.leads(self._mail.database, forms)
        for form in forms:
            # what has been deleted leads nowhere, and so to whoever gets all that is left
            owners = [
                account for match, account in found if match == form and account.remove_at is None
            ]
            elsewhere = tuple(target for match, target in forwards if match == form)
            if owners or elsewhere:
                taking = tuple(account for account in owners if account.takes_mail)
                return Resolution(True, taking, elsewhere, refuses=not (taking or elsewhere))
        return Resolution(await accounts.domain_exists(self._mail.database, address.domain))


async def resolve(mail: "Mail", address: Address) -> Resolution:
    """Find the accounts of an address: itself, without its subaddress, or the catch-all."""
    return await mail.directory.resolve(address)


async def send_addresses(mail: "Mail", account: AccountId) -> list[str]:
    """Return the addresses an account may send as; NotFound when it has none at all."""
    found = await accounts.addresses(mail.database, account)
    if not found:
        raise NotFound("account")
    return found


async def may_send_as(mail: "Mail", account: AccountId, address: Address) -> bool:
    """Tell whether an address, its subaddress aside, belongs to an account that is enabled."""
    separator = mail.config.smtp.subaddress_separator
    forms = {str(address), str(address.without_subaddress(separator)), f"@{address.domain}"}
    return not forms.isdisjoint(await accounts.may_send(mail.database, account))
