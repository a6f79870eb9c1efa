"""Statements on push subscriptions, and on the keys that all processes share."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import AccountId, Principal
from mailserver.storage.database import Executor, Record


class PushKeys(NamedTuple):
    """What a device gave to encrypt for it (RFC 8291 §2)."""

    p256dh: bytes  # its public key, an uncompressed point of P-256
    auth: bytes  # its authentication secret


class PushSubscription(NamedTuple):
    """Where a device wants to be told of changes (RFC 8620 §7.2)."""

    account_id: AccountId
    id: int
    device_client_id: str
    url: str
    keys: PushKeys | None  # None: nothing is encrypted
    verification_code: str
    verified: bool
    expires_at: datetime
    types: list[str] | None  # None: all
    told: str = ""  # the place that it was told last; before it is verified, whether that was asked
    failures: int = 0  # attempts in a row
    attempt_at: datetime | None = None  # when what waits is sent; None: at a change


def _subscription(row: Record) -> PushSubscription:
    keys = None if row["p256dh"] is None else PushKeys(row["p256dh"], row["auth"])
    return PushSubscription(
        AccountId(row["account_id"]),
        row["id"],
        row["device_client_id"],
        row["url"],
        keys,
        row["verification_code"],
        row["verified"],
        row["expires_at"],
        row["types"],
        row["told"],
        row["failures"],
        row["attempt_at"],
    )


async def insert(tx: Executor, new: PushSubscription, most: int, now: datetime) -> bool:
    """Add a subscription; False when the account has `most` already."""
    tag = await tx.execute(
        """
        INSERT INTO push_subscription (
            account_id, id, device_client_id, url, p256dh, auth, verification_code, expires_at,
            types
        )
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
        WHERE (
            SELECT count(*) FROM push_subscription WHERE account_id = $1 AND expires_at > $11
        ) < $10
        """,
        new.account_id,
        new.id,
        new.device_client_id,
        new.url,
        None if new.keys is None else new.keys.p256dh,
        None if new.keys is None else new.keys.auth,
        new.verification_code,
        new.expires_at,
        new.types,
        most,
        now,
    )
    return tag.endswith(" 1")


async def of_account(
    database: Executor, account: AccountId, now: datetime
) -> list[PushSubscription]:
    """Return the subscriptions of an account that have not expired, oldest first."""
    rows = await database.fetch(
        """
        SELECT account_id, id, device_client_id, url, p256dh, auth, verification_code, verified,
               expires_at, types, told, failures, attempt_at
        FROM push_subscription
        WHERE account_id = $1 AND expires_at > $2
        ORDER BY id
        """,
        account,
        now,
    )
    return [_subscription(row) for row in rows]


async def update(
    tx: Executor,
    account: AccountId,
    subscription: int,
    expires_at: datetime,
    types: Sequence[str] | None,
) -> None:
    """Change when a subscription ends, and what it is about."""
    await tx.execute(
        """
        UPDATE push_subscription
        SET expires_at = $3, types = $4
        WHERE account_id = $1 AND id = $2
        """,
        account,
        subscription,
        expires_at,
        types,
    )


async def verify(tx: Executor, account: AccountId, subscription: int, place: str) -> None:
    """Note that the device gave the code back: from this place on it is told of changes."""
    await tx.execute(
        """
        UPDATE push_subscription
        SET verified = true, told = $3, failures = 0, attempt_at = NULL
        WHERE account_id = $1 AND id = $2 AND NOT verified
        """,
        account,
        subscription,
        place,
    )


async def delete(tx: Executor, account: AccountId, ids: Sequence[int]) -> set[int]:
    """Remove subscriptions with all that they say; return which were there."""
    rows = await tx.fetch(
        """
        DELETE FROM push_subscription
        WHERE account_id = $1 AND id = ANY($2::bigint[])
        RETURNING id
        """,
        account,
        ids,
    )
    return {row["id"] for row in rows}


async def delete_all(tx: Executor, account: AccountId) -> None:
    """Remove the subscriptions of an account: its credentials are others now."""
    await tx.execute("DELETE FROM push_subscription WHERE account_id = $1", account)


async def expire(database: Executor, now: datetime) -> int:
    """Remove the subscriptions whose time is over; return how many."""
    tag = await database.execute("DELETE FROM push_subscription WHERE expires_at <= $1", now)
    return int(tag.rpartition(" ")[2])


# For whoever sends -------------------------------------------------------------------------------


async def of_shards(
    database: Executor, shards: int, own: Sequence[int], now: datetime
) -> list[tuple[Principal, PushSubscription]]:
    """Return the subscriptions of the accounts that fall into some of `shards` shards."""
    rows = await database.fetch(
        """
        SELECT s.account_id, s.id, s.device_client_id, s.url, s.p256dh, s.auth,
               s.verification_code, s.verified, s.expires_at, s.types, s.told, s.failures,
               s.attempt_at, account.login
        FROM push_subscription s
        JOIN account ON account.id = s.account_id
        WHERE account.enabled AND s.expires_at > $3
              AND s.account_id % $1::bigint = ANY($2::bigint[])
        """,
        shards,
        own,
        now,
    )
    return [
        (Principal(AccountId(row["account_id"]), row["login"]), _subscription(row)) for row in rows
    ]


async def note_asked(database: Executor, account: AccountId, subscription: int) -> None:
    """Note that a device was sent its code, unless it has given it back meanwhile."""
    await database.execute(
        """
        UPDATE push_subscription
        SET told = 'asked', failures = 0, attempt_at = NULL
        WHERE account_id = $1 AND id = $2 AND NOT verified
        """,
        account,
        subscription,
    )


async def is_there(database: Executor, account: AccountId, subscription: int) -> bool:
    """Tell whether nobody has removed a subscription."""
    found = await database.fetchval(
        "SELECT true FROM push_subscription WHERE account_id = $1 AND id = $2",
        account,
        subscription,
    )
    return found is not None


async def note_told(database: Executor, account: AccountId, subscription: int, told: str) -> None:
    """Note what a device was told last: the push service has it."""
    await database.execute(
        """
        UPDATE push_subscription
        SET told = $3, failures = 0, attempt_at = NULL
        WHERE account_id = $1 AND id = $2
        """,
        account,
        subscription,
        told,
    )


async def note_failure(
    database: Executor, account: AccountId, subscription: int, attempt_at: datetime
) -> None:
    """Note an attempt that failed, and when the next one is due."""
    await database.execute(
        """
        UPDATE push_subscription
        SET failures = failures + 1, attempt_at = $3
        WHERE account_id = $1 AND id = $2
        """,
        account,
        subscription,
        attempt_at,
    )


async def shared_key(database: Executor, name: str) -> bytes | None:
    """Return the secret of that name, the same in every process; None before there is one."""
    secret: bytes | None = await database.fetchval(
        "SELECT secret FROM server_key WHERE name = $1", name
    )
    return secret


async def keep_key(database: Executor, name: str, fresh: bytes, now: datetime) -> bytes:
    """Keep a fresh secret, unless another process was first; return the one that is kept."""
    secret: bytes = await database.fetchval(
        """
        INSERT INTO server_key (name, secret, created_at)
        VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET name = excluded.name
        RETURNING secret
        """,
        name,
        fresh,
        now,
    )
    return secret
