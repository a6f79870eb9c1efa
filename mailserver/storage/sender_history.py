"""How much spam and other mail came from domains and networks; what is old counts less and less."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from mailserver.storage.database import Executor

HALF_LIFE = timedelta(days=30)  # after which a message counts half


class Record(NamedTuple):
    """What came from one sender, in messages as they count now."""

    ham: float
    spam: float


async def look(database: Executor, names: Sequence[str], now: datetime) -> dict[str, Record]:
    """Return the records of senders, those that there are."""
    rows = await database.fetch(
        """
        SELECT name, ham * faded AS ham, spam * faded AS spam
        FROM sender_history,
             LATERAL (
                 SELECT power(0.5, extract(epoch FROM greatest($2 - at, interval '0'))
                                   / extract(epoch FROM $3::interval)) AS faded
             ) AS f
        WHERE name = ANY($1::text[])
        """,
        names,
        now,
        HALF_LIFE,
    )
    return {row["name"]: Record(row["ham"], row["spam"]) for row in rows}


async def add(database: Executor, records: Mapping[str, Record], now: datetime) -> None:
    """Count messages; what was counted before fades."""
    rows = sorted(records.items())
    await database.execute(
        """
        INSERT INTO sender_history (name, ham, spam, at)
        SELECT name, ham, spam, $4
        FROM unnest($1::text[], $2::real[], $3::real[]) AS d(name, ham, spam)
        ON CONFLICT (name)
        DO UPDATE SET
            ham = excluded.ham + sender_history.ham * power(
                0.5,
                extract(epoch FROM greatest($4 - sender_history.at, interval '0'))
                / extract(epoch FROM $5::interval)
            ),
            spam = excluded.spam + sender_history.spam * power(
                0.5,
                extract(epoch FROM greatest($4 - sender_history.at, interval '0'))
                / extract(epoch FROM $5::interval)
            ),
            at = greatest(sender_history.at, excluded.at)
        """,
        [name for name, _ in rows],
        [record.ham for _, record in rows],
        [record.spam for _, record in rows],
        now,
        HALF_LIFE,
    )


async def expire(database: Executor, before: datetime) -> None:
    """Forget senders of whom nothing came for long."""
    await database.execute("DELETE FROM sender_history WHERE at < $1", before)
