"""Which of the messages that wait are committed together.

An account is in one commit at a time: a second one would only wait for the lock of the first, or
find that what it knows of the account is not true any more.
"""

from collections.abc import Sequence

from mailserver.mail.delivery import Arrival
from mailserver.model import AccountId

MAX_MESSAGES = 32  # in one commit
MAX_BYTES = 16 * 1024 * 1024  # of messages in one commit


class Waiting:
    """Messages that wait for a commit, and the accounts that one is under way for."""

    def __init__(self) -> None:
        self._arrivals: list[Arrival] = []
        self._busy: set[AccountId] = set()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._arrivals)

    def add(self, arrival: Arrival) -> bool:
        """Let a message wait; tell whether it could be committed now."""
        self._arrivals.append(arrival)
        return self._busy.isdisjoint(accounts_of((arrival,)))

    def take(self) -> list[Arrival]:
        """Take what one commit may hold, oldest first; its accounts are busy until `release`."""
        taken: list[Arrival] = []
        left: list[Arrival] = []
        size = 0
        for place, arrival in enumerate(self._arrivals):
            full = len(taken) == MAX_MESSAGES or (taken and size + len(arrival.raw) > MAX_BYTES)
            if full:
                left += self._arrivals[place:]
                break
            if self._busy.isdisjoint(accounts_of((arrival,))):
                taken.append(arrival)
                size += len(arrival.raw)
            else:
                left.append(arrival)
        self._arrivals = left
        self._busy |= accounts_of(taken)
        return taken

    def release(self, arrivals: Sequence[Arrival]) -> None:
        """Note that the commit of what was taken has ended."""
        self._busy -= accounts_of(arrivals)


def accounts_of(arrivals: Sequence[Arrival]) -> set[AccountId]:
    """Return the accounts that a commit changes."""
    accounts = {target.account_id for arrival in arrivals for target in arrival.targets}
    for arrival in arrivals:
        if arrival.companion is not None and arrival.companion.account_id is not None:
            accounts.add(arrival.companion.account_id)
    return accounts
