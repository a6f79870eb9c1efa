"""Push subscriptions: where devices want to be told of changes while they are away."""

import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mailserver.errors import Invalid, TooMany
from mailserver.events import pushes_of
from mailserver.model import AccountId, Modseq, Principal
from mailserver.storage import leases, push
from mailserver.storage.push import PushKeys, PushSubscription

__all__ = ["PushKeys", "PushSubscription"]

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

LONGEST = timedelta(days=7)  # until a client must say again that it is there
MAX_SUBSCRIPTIONS = 50  # of one account
SHARDS = 8  # of all accounts: each is one process's to send for
CODE = 24  # octets of a verification code
VAPID_KEY = "vapid-p256"


@dataclass(frozen=True, slots=True)
class New:
    """A subscription that is to be made."""

    device_client_id: str
    url: str
    keys: PushKeys | None
    expires_at: datetime | None
    types: list[str] | None


async def of_account(mail: "Mail", account: AccountId) -> list[PushSubscription]:
    """Return the subscriptions of an account."""
    return await push.of_account(mail.database, account, mail.now())


async def create(
    mail: "Mail",
    account: AccountId,
    new: New,
    random: Callable[[int], str] = secrets.token_urlsafe,
) -> PushSubscription:
    """Make a subscription, which begins when its device has given the code back; TooMany."""
    now = mail.now()
    made = PushSubscription(
        account,
        mail.ids.next(),
        new.device_client_id,
        new.url,
        new.keys,
        random(CODE),
        False,
        _bounded(new.expires_at, now),
        new.types,
    )
    if not await push.insert(mail.database, made, MAX_SUBSCRIPTIONS, now):
        raise TooMany("push subscriptions")
    _tell(mail, account)
    return made


def _bounded(wanted: datetime | None, now: datetime) -> datetime:
    """Return when a subscription ends, in whole seconds as it is shown."""
    latest = now + LONGEST
    return (latest if wanted is None else min(wanted, latest)).replace(microsecond=0)


async def update(
    mail: "Mail",
    account: AccountId,
    subscription: PushSubscription,
    expires_at: datetime | None,
    types: list[str] | None,
) -> datetime:
    """Change when a subscription ends, and what it is about; return when it ends now."""
    until = _bounded(expires_at, mail.now())
    await push.update(mail.database, account, subscription.id, until, types)
    _tell(mail, account)
    return until


def check_code(subscription: PushSubscription, code: str) -> None:
    """Raise Invalid unless it is the code that the device was sent."""
    if not hmac.compare_digest(subscription.verification_code.encode(), code.encode()):
        raise Invalid("verification code")


async def verify(
    mail: "Mail", account: AccountId, subscription: PushSubscription, place: str
) -> None:
    """Note that the device is there: it is told of changes after a place."""
    await push.verify(mail.database, account, subscription.id, place)
    _tell(mail, account)


async def destroy(mail: "Mail", account: AccountId, ids: Sequence[int]) -> set[int]:
    """Remove subscriptions; return which were there."""
    gone = await push.delete(mail.database, account, ids)
    if gone:
        _tell(mail, account)
    return gone


def _tell(mail: "Mail", account: AccountId) -> None:
    """Tell whoever sends for the account that its subscriptions are others now."""
    stamp = int(mail.now().timestamp() * 1_000_000)
    mail.events.publish(pushes_of(account % SHARDS), Modseq(stamp))


async def vapid_key(mail: "Mail", make: Callable[[], bytes]) -> bytes:
    """Return the key that signs pushes; the first process that asks makes it."""
    found = await push.shared_key(mail.database, VAPID_KEY)
    if found is None:
        found = await push.keep_key(mail.database, VAPID_KEY, make(), mail.now())
    return found


async def take_shards(mail: "Mail", owner: str, now: datetime, duration: timedelta) -> list[int]:
    """Return the shards that a process may send for, until the duration is over."""
    names = {f"push-{shard}": shard for shard in range(SHARDS)}
    held = await leases.take_all(mail.database, list(names), owner, now, duration)
    return [names[name] for name in held]


async def of_shards(
    mail: "Mail", shards: Sequence[int]
) -> list[tuple[Principal, PushSubscription]]:
    """Return the subscriptions of the accounts of some shards, with whose they are."""
    if not shards:
        return []
    return await push.of_shards(mail.database, SHARDS, shards, mail.now())


async def gone(mail: "Mail", subscription: PushSubscription) -> None:
    """Remove a subscription whose push service knows no such device any more."""
    await push.delete(mail.database, subscription.account_id, [subscription.id])


async def note_asked(mail: "Mail", subscription: PushSubscription) -> None:
    """Note that a push service took the code; its device may have been faster than this note."""
    await push.note_asked(mail.database, subscription.account_id, subscription.id)


async def is_there(mail: "Mail", subscription: PushSubscription) -> bool:
    """Tell whether a subscription has not been removed, as by a new password."""
    return await push.is_there(mail.database, subscription.account_id, subscription.id)


async def note_told(mail: "Mail", subscription: PushSubscription, told: str) -> None:
    """Note that a push service took a message: the device is told up to there."""
    await push.note_told(mail.database, subscription.account_id, subscription.id, told)


async def note_failure(mail: "Mail", subscription: PushSubscription, attempt_at: datetime) -> None:
    """Note that a push service did not take a message."""
    await push.note_failure(mail.database, subscription.account_id, subscription.id, attempt_at)
