"""Mail for an alias that leads to another server: how it leaves here, and how reports come back.

A copy has a reverse-path of this server (SRS), is sealed by the domain of the alias (ARC), and says
where it was (Delivered-To), so that one which comes round again is refused. It is queued in the
commit that delivers the message to whoever gets it here.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailserver.address import Address, parse_address, quoted
from mailserver.errors import ConfigurationError
from mailserver.mail.delivery import Onward
from mailserver.mail.dkim import Signatures
from mailserver.mime.arc import Sealer, seal
from mailserver.mime.headers import HeaderBlock
from mailserver.model import NOBODY
from mailserver.queue.enqueue import Outgoing, OutgoingRecipient
from mailserver.queue.srs import Srs, is_rewritten

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

log = logging.getLogger(__name__)

LARGE = 256 * 1024  # octets of a message that is sealed in a thread
SEAL = "rsa-sha256"  # the one algorithm that ARC names (RFC 8617 §4.1.2)


@dataclass(frozen=True, slots=True)
class Passage:
    """Where mail for one recipient goes on to; without an alias it is a report that comes back."""

    alias: Address | None
    targets: tuple[str, ...]
    notify: str | None = None  # RFC 3461 §4.1, of the recipient


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that goes on, as it arrived with its trace, and its envelope."""

    sender: str  # reverse-path
    content: bytes
    session: str
    smtputf8: bool = False
    body: str = "7BIT"
    require_tls: bool = False  # RFC 8689


class Forwarding:
    """Makes the copies that leave this server."""

    def __init__(self, mail: "Mail") -> None:
        self._mail = mail
        self._signatures = Signatures(mail)

    async def copies(self, letter: Letter, passages: Sequence[Passage]) -> list[Onward]:
        """Return a copy for each recipient; ConfigurationError when this server has no secret."""
        return [await self._copy(letter, passage) for passage in passages if passage.targets]

    async def _copy(self, letter: Letter, passage: Passage) -> Onward:
        sender, content = letter.sender, letter.content
        if passage.alias is not None:
            content = b"".join((delivered_to(passage.alias), content))
            content = await self._sealed(content, passage.alias.domain)
            if sender:
                sender = self._srs().rewritten(sender, passage.alias.domain, self._mail.now())
        recipients = tuple(
            OutgoingRecipient(
                target,
                parse_address(target).domain,
                "NEVER" if not sender or passage.notify == "NEVER" else None,
            )
            for target in passage.targets
        )
        outgoing = Outgoing(
            NOBODY,
            sender,
            recipients,
            letter.session,
            smtputf8=letter.smtputf8,
            body="8BITMIME" if letter.body == "BINARYMIME" else letter.body,
            require_tls=letter.require_tls,
            traceparent=self._mail.tracing.parent(),
        )
        return Onward(content, outgoing)

    async def _sealed(self, content: bytes, domain: str) -> bytes:
        """Put an ARC set on top, when the domain has a key."""
        signer = await self._signatures.signer(domain, SEAL)
        if signer is None:
            return content
        hostname = self._mail.config.server.hostname.lower()
        sealer = Sealer(hostname, domain, signer.row.selector, SEAL, signer.sign)
        seconds = int(self._mail.now().timestamp())
        if len(content) > LARGE:
            return await asyncio.to_thread(seal, content, sealer, seconds) + content
        return seal(content, sealer, seconds) + content

    def returns_to(self, path: str) -> str | None:
        """Return whose report comes to a path of this server; None when it is none of ours."""
        local, _, _ = path.rpartition("@")
        local = local.strip('"')
        if not is_rewritten(local):
            return None
        try:
            found = self._srs().original(local, self._mail.now())
        except ConfigurationError:
            return None
        return f"{quoted(found.local_part)}@{found.domain}" if found is not None else None

    def _srs(self) -> Srs:
        secret = self._mail.config.server.secret_key.current()
        if not secret:
            raise ConfigurationError("server.secret_key is not set: nothing can be forwarded")
        return Srs.of(secret)


def delivered_to(alias: Address) -> bytes:
    """Return the field that says where a message was."""
    return f"Delivered-To: {alias}\r\n".encode()


def was_at(content: bytes, alias: Address) -> bool:
    """Tell whether a message was at an alias before: it goes round in circles."""
    own = str(alias).encode()
    return any(
        field.name.lower() == "delivered-to" and field.value.strip().lower() == own
        for field in HeaderBlock(content)
    )
