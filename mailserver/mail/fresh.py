"""Messages that this process has just stored or read, kept for whoever reads them at once.

A client in IDLE is told of new mail and fetches its envelope and its text a moment later, the
user's other devices too, and one that has stored a draft reads it again: all find it here and ask
no query. A message never changes, so what is here cannot be out of date. It may have left: whoever
has heard of a change and has not looked at it yet asks the store.
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

    env: bytes | None  # None: only the message was read
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
        stored = _Stored(copy.env, copy.header, data)
        self._keep(copy.account_id, copy.email_id, stored, len(copy.env) + len(copy.header))

    def keep_read(self, account: AccountId, email: int, data: bytes) -> None:
        """Take a message that was read from the store, as it is stored."""
        if self._kept.get((account, email)) is None:
            self._keep(account, email, _Stored(None, b"", data), 0)

    def _keep(self, account: AccountId, email: int, stored: _Stored, size: int) -> None:
        size += len(stored.data)
        if size <= LARGE:
            self._kept.keep((account, email), stored, size + ROW_SIZE)

    def message(self, account: AccountId, email: int) -> bytes | None:
        """Return a whole message, if it is here."""
        found = self._kept.get((account, email))
        return None if found is None else decompress(found.data)

    def descriptions(
        self, account: AccountId, ids: Sequence[int], *, env: int, header: bool
    ) -> Descriptions | None:
        """Return what `messages.descriptions` does, if all of them are here."""
        envs, headers = [], []
        for email in ids:
            each = self._kept.get((account, email))
            if each is None or each.env is None:
                return None
            envs.append(each.env)
            headers.append(each.header)
        return Descriptions(
            list(ids),
            [each[:env] for each in envs] if env else [],
            decompress_all(headers) if header else [],
        )
