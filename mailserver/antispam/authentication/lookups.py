"""What the checks ask DNS."""

from typing import Protocol


class Lookups(Protocol):
    """A resolver: `mailserver.dns.Resolver`, or a zone in memory."""

    async def texts(self, name: str, kind: str) -> list[str]:
        """Return records as a zone file has them, TXT joined and without quotes.

        None when there are none; LookupFailed when nobody can tell. CNAME records are followed.
        """
        ...
