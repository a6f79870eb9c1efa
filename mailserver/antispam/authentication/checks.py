"""Everything that is checked about where a message comes from, at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from mailserver.address import Address, quoted
from mailserver.antispam.authentication.arc import check_arc
from mailserver.antispam.authentication.content import Content
from mailserver.antispam.authentication.dkim import check_dkim
from mailserver.antispam.authentication.dmarc import Evidence, check_dmarc
from mailserver.antispam.authentication.iprev import check_iprev
from mailserver.antispam.authentication.lookups import Limited, Lookups
from mailserver.antispam.authentication.results import Authentication, Spf
from mailserver.antispam.authentication.spf import check_spf
from mailserver.antispam.evidence import Inquiry
from mailserver.config import Config

T = TypeVar("T")
SHARE = 0.75  # of the time that all checks of a message have


@dataclass(frozen=True, slots=True)
class Rules:
    """What this server has decided about authentication."""

    authserv_id: str  # the name of this server in the fields it adds
    trusted_sealers: frozenset[str] = frozenset()  # domains whose ARC chains are believed
    suffix_list: bool = False  # DMARC by RFC 7489 and the public suffix list
    seconds: float = SHARE * 20  # that DNS has for all of a message
    questions: int = 300  # to DNS about one message

    @classmethod
    def of(cls, config: Config) -> "Rules":
        """Return what the configuration says."""
        settings = config.authentication
        sealers = frozenset(settings.trusted_sealers.lower().split())
        return cls(
            config.server.hostname.lower(),
            sealers,
            settings.suffix_list,
            SHARE * config.antispam.time_limit,
        )


async def authenticate(
    resolver: Lookups, inquiry: Inquiry, rules: Rules, clock: Callable[[], float]
) -> Authentication:
    """Check a message as it arrived; `clock` counts seconds.

    Never raises because of what a peer sent or what DNS says: that becomes a result.
    """
    seconds: dict[str, float] = {}
    resolver = Limited(resolver, rules.seconds, rules.questions)
    content = Content(inquiry.raw)

    async def timed(check: str, work: Awaitable[T]) -> T:
        began = clock()
        done = await work
        seconds[check] = clock() - began
        return done

    client = inquiry.client
    helo, sender = client.helo, _sender(inquiry.sender)

    def spf(identity: str) -> Awaitable[Spf]:
        return check_spf(
            resolver,
            ip=client.ip,
            sender=identity,
            helo=helo,
            receiver=rules.authserv_id,
            now=inquiry.received_at,
        )

    iprev, by_helo, by_path, signatures, arc = await asyncio.gather(
        timed("iprev", check_iprev(resolver, client.ip)),
        timed("spf_helo", spf("")),
        timed("spf", spf(sender) if sender else _nothing()),
        timed("dkim", check_dkim(resolver, content, inquiry.received_at)),
        timed("arc", check_arc(resolver, content)),
    )
    by_sender = by_path or by_helo  # the null sender has no other name (RFC 7208 §2.4)
    dmarc = await timed(
        "dmarc",
        check_dmarc(
            resolver,
            content,
            Evidence(by_sender, signatures, arc),
            trusted_sealers=rules.trusted_sealers,
            suffix_list=rules.suffix_list,
        ),
    )
    return Authentication(iprev, by_helo, by_sender, signatures, arc, dmarc, seconds)


async def _nothing() -> None:
    """Stand for a check that another one answers."""


def _sender(address: Address | None) -> str:
    return f"{quoted(address.local_part)}@{address.domain}" if address else ""
