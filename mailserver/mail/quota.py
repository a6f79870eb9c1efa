"""How much room an account has."""

from typing import TYPE_CHECKING

from mailserver.errors import NotFound
from mailserver.model import AccountId
from mailserver.storage import accounts

if TYPE_CHECKING:
    from mailserver.mail.context import Mail


async def storage(mail: "Mail", account: AccountId) -> tuple[int, int | None]:
    """Return the bytes an account uses and those it may use, None without a limit."""
    found = await accounts.by_id(mail.database, account)
    if found is None:
        raise NotFound("account")
    return found.quota_used, found.quota_limit


def state(used: int, limit: int | None) -> str:
    """Return what a quota says as the state of its type: the same state is the same quota."""
    return f"{max(used, 0)}-{'' if limit is None else limit}"
