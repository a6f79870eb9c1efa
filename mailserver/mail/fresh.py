"""Messages that this process has just stored, kept for whoever reads them at once.

A client in IDLE is told of new mail and fetches its envelope and its text a moment later, and one
that has stored a draft reads it again: both find it here and ask no query. A message never changes,
so what is here cannot be out of date. It may have left: whoever has heard of a change and has not
looked at it yet asks the store.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mailserver.mail.shelves import Kept
from mailserver.model import AccountId, Descriptions
from mailserver.storage.compression import decompress, decompress_all
from mailserver.storage.delivery import NewCopy

ROOM = 24 * 1024 * 1024  # octets, of all workers together
LARGE = 64 * 1024  # octets of a stored message that is not kept: few of them would fill the room
ROW_SIZE = 400  # octets of memory that a message costs besides its own


class _Stored(NamedTuple):
    """A message as it is stored."""

    env: bytes
    header: bytes  # compressed
    data: bytes  # compressed


class Fresh:
    """What was stored last, the one read or stored longest ago goes first."""

    def __init__(self, room: int) -> None:
        self._kept: Kept[tuple[int, int], _Stored] = Kept(room)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, copy: NewCopy, data: bytes) -> None:
        """Take a message that is durable, and its body as it is stored."""
        size = len(copy.env) + len(copy.header) + len(data)
        if size <= LARGE:
            stored = _Stored(copy.env, copy.header, data)
            self._kept.keep((copy.account_id, copy.email_id), stored, size + ROW_SIZE)

    def message(self, account: AccountId, email: int) -> bytes | None:
        """Return a whole message, if it is here."""
        found = self._kept.get((account, email))
        return None if found is None else decompress(found.data)

    def descriptions(
        self, account: AccountId, ids: Sequence[int], *, env: int, header: bool
    ) -> Descriptions | None:
        """Return what `messages.descriptions` does, if all of them are here."""
        found = []
        for email in ids:
            each = self._kept.get((account, email))
            if each is None:
                return None
            found.append(each)
        return Descriptions(
            list(ids),
            [each.env[:env] for each in found] if env else [],
            decompress_all(each.header for each in found) if header else [],
        )
