"""One SMTP connection as the checks see it."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from mailserver.antispam.evidence import Client, Finding


@dataclass(slots=True)
class Visit:
    """What is known of a client, and what is being asked about it while it speaks."""

    session: str  # id of the SMTP session
    ip: str
    came_at: datetime
    trusted: bool = False  # nothing of it is checked
    helo: str = ""
    tls: str = ""
    name: str = ""  # by DNS, if it leads back to the address
    findings: list[Finding] = field(default_factory=list)  # about the client, not a message
    looking: "asyncio.Task[None] | None" = None  # finds out about the client
    met: int = 0  # recipients for which it was asked to come again

    def client(self) -> Client:
        """Return the client as checks of a message are told of it."""
        return Client(self.ip, self.helo, self.name, self.tls)
