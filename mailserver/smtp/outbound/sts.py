"""The MTA-STS policies of other domains: looked up, fetched, remembered (RFC 8461)."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from mailserver.dns import LookupFailed, Resolver
from mailserver.errors import Invalid, Unavailable
from mailserver.queue.policies import PolicyRow
from mailserver.smtp.protocol.sts import MAX_POLICY, Policy, parse_policy, record_id, response_body

log = logging.getLogger(__name__)

FETCH_TIME = 10.0  # seconds for a web server: nobody's mail hangs on it for longer
CHECKED = 300.0  # seconds until a domain is looked at again
Find = Callable[[str], Awaitable[PolicyRow | None]]
Store = Callable[[PolicyRow], Awaitable[None]]
MAX_ADDRESSES = 4  # of a web server that are tried
MAX_KNOWN = 10_000  # domains that are remembered


@dataclass(frozen=True, slots=True)
class _Known:
    policy: Policy | None
    until: float


class Policies:
    """Finds the policy of a domain."""

    def __init__(
        self,
        find: Find,
        store: Store,
        resolver: Resolver,
        context: Callable[[], ssl.SSLContext],
        now: Callable[[], datetime],
        port: int = 443,
    ) -> None:
        """Take what remembers policies, and who makes a context that verifies certificates."""
        self._find = find
        self._store = store
        self._resolver = resolver
        self._context = context
        self._now = now
        self._port = port
        self._known: dict[str, _Known] = {}

    async def find(self, domain: str) -> Policy | None:
        """Return the policy of a domain; None when it has none, or none can be had."""
        clock = asyncio.get_running_loop().time
        known = self._known.get(domain)
        if known is None or known.until < clock():
            try:
                policy = await self._look(domain)
            except Unavailable as error:
                log.warning("MTA-STS: no store", extra={"domain": domain, "error": str(error)})
                policy = known.policy if known is not None else None
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[domain] = _Known(policy, clock() + CHECKED)
        return known.policy

    async def _look(self, domain: str) -> Policy | None:
        """Compare what is remembered with the record, and fetch what is new (RFC 8461 §5.1)."""
        row = await self._find(domain)
        kept = None
        if row is not None:
            with contextlib.suppress(Invalid):
                kept = parse_policy(row.policy)
        try:
            found = record_id(await self._resolver.texts(f"_mta-sts.{domain}", "TXT"))
        except LookupFailed:
            return kept
        if found is None or (row is not None and kept is not None and row.id == found):
            return kept  # a record that is gone does not end a policy before its time
        try:
            text = await fetch_policy(self._resolver, domain, self._context(), self._port)
            policy = parse_policy(text)
        except (Invalid, LookupFailed, OSError, TimeoutError) as error:
            log.warning("MTA-STS: no policy", extra={"domain": domain, "error": str(error)})
            return kept
        expires = self._now() + timedelta(seconds=policy.max_age)
        await self._store(PolicyRow(domain, found, text, expires))
        return policy


async def fetch_policy(
    resolver: Resolver, domain: str, context: ssl.SSLContext, port: int = 443
) -> str:
    """Fetch the policy of a domain; no redirect is followed (RFC 8461 §3.3).

    Invalid, LookupFailed, OSError (also of a certificate that is not valid) and TimeoutError when
    it cannot be had.
    """
    host = f"mta-sts.{domain}"
    addresses = (await resolver.addresses(host)).found
    if not addresses:
        raise Invalid("the host of the policy has no address")
    failure: OSError | None = None
    async with asyncio.timeout(FETCH_TIME):
        for address in reversed(addresses[:MAX_ADDRESSES]):  # IPv4 first: more have it
            try:
                return response_body(await _ask(address, port, context, host))
            except OSError as error:
                failure = error
    assert failure is not None
    raise failure


async def _ask(address: str, port: int, context: ssl.SSLContext, host: str) -> bytes:
    reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=host)
    try:
        writer.write(
            f"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: {host}\r\n"
            "Accept: text/plain\r\nConnection: close\r\n\r\n".encode()
        )
        response = b""
        while data := await reader.read(MAX_POLICY):
            response += data
            if len(response) > 2 * MAX_POLICY:
                raise Invalid("the policy is too long")
    finally:
        writer.transport.abort()
    return response
