"""POST to push services: anybody may name one, so this goes nowhere but to public addresses."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from mailserver.config import Push
from mailserver.errors import Invalid
from mailserver.jmap.protocol.push_urls import check_url, is_public
from mailserver.jmap.push.client import Answer

TIMEOUT = 20.0  # seconds for one message, all in all
CONNECTIONS = 64  # at once, of a process
CONNECTIONS_PER_HOST = 8


class _PublicResolver(AbstractResolver):
    """Looks names up, and passes over addresses that are not public."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return where to connect to; OSError when there is nothing."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        results: list[ResolveResult] = []
        for each, _, proto, _, where in found:
            if is_public(ipaddress.ip_address(str(where[0]).partition("%")[0])):
                results.append(
                    ResolveResult(
                        hostname=host,
                        host=str(where[0]),
                        port=port,
                        family=each,
                        proto=proto,
                        flags=socket.AI_NUMERICHOST,
                    )
                )
        if not results:
            raise OSError(None, "no public address")
        return results

    async def close(self) -> None:
        """Nothing is kept."""


class Sender:
    """Sends messages over connections that are kept; `close` it afterwards."""

    def __init__(self, config: Push) -> None:
        self._allow_private = config.allow_private
        context = ssl.create_default_context()
        if config.ca is not None:
            context.load_verify_locations(config.ca)
        resolver = None if config.allow_private else _PublicResolver()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context,
                resolver=resolver,
                limit=CONNECTIONS,
                limit_per_host=CONNECTIONS_PER_HOST,
                use_dns_cache=False,
            ),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a message; a redirection is not followed, and the answer's body not read."""
        try:
            check_url(url, allow_private=self._allow_private)
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return Answer(response.status, _seconds(response.headers.get("Retry-After")))
        except (Invalid, OSError, TimeoutError, ValueError, aiohttp.ClientError):
            return Answer(0)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _seconds(text: str | None) -> float | None:
    if text is None or not text.isascii() or not text.isdigit():
        return None  # a date is what few services send
    return float(text[:9])
