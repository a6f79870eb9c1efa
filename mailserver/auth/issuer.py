"""An OpenID Connect issuer: its keys, kept while it is away, and its word on opaque tokens.

Whoever can make this server ask the issuer could make it do so without end, so the keys are asked
for at most every `oauth.jwks_retry` seconds, whatever tokens arrive.
"""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus

import aiohttp
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from mailserver.config import Oauth, is_private_url
from mailserver.errors import AuthenticationFailed, Unavailable

log = logging.getLogger(__name__)

MAX_ANSWER = 256 * 1024  # octets
MAX_KEYS = 100
KEEP = 86400.0  # seconds that keys are used while no newer ones can be had
_NEVER = float("-inf")
# by "kty"; a shared secret, "oct", is not among them
_KINDS: dict[str, type[RSAKey | ECKey | OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


class Issuer:
    """Asks one issuer, by HTTP, and remembers its keys."""

    def __init__(self, config: Oauth, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._now = monotonic
        self._keys: list[Key] = []
        self._fetched = _NEVER
        self._tried = _NEVER
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: str | None) -> Key:
        """Return a public key; without a `kid` the only one.

        Raises AuthenticationFailed when the issuer has no such key, Unavailable when no keys are
        known and the issuer does not answer.
        """
        age = self._now() - self._fetched
        if age > KEEP:
            await self._fetch()
        elif age > self._config.jwks_refresh:
            self._begin()  # the keys that are here are good enough until it is done
        found = self._find(kid)
        if found is None and self._keys:
            await self._fetch()
            found = self._find(kid)
        if self._now() - self._fetched > KEEP:
            raise Unavailable("the keys of the issuer cannot be had")
        if found is None:
            raise AuthenticationFailed("the token is signed with an unknown key")
        return found

    async def introspect(self, token: str) -> Mapping[str, Any]:
        """Return what the issuer says of a token (RFC 7662 §2.2).

        Raises Unavailable, and AuthenticationFailed for a token that is not active.
        """
        config = self._config
        # RFC 6749 §2.3.1: both are encoded like the fields of a form first
        client = f"{quote_plus(config.client_id)}:{quote_plus(config.client_secret.current())}"
        answer = await self._ask(
            "POST",
            config.introspection_url,
            data={"token": token, "token_type_hint": "access_token"},
            headers={"Authorization": f"Basic {base64.b64encode(client.encode()).decode()}"},
        )
        if answer.get("active") is not True:
            raise AuthenticationFailed("the issuer says that the token is not active")
        return answer

    async def fetch_keys(self) -> list[Key]:
        """Return the issuer's keys as they are now; Unavailable says what is wrong."""
        document = await self._ask("GET", self._config.discovery_url)
        if document.get("issuer") != self._config.issuer:
            # OpenID Connect Discovery §4.3
            raise Unavailable(f"the issuer calls itself {document.get('issuer')!r:.200}")
        location = document.get("jwks_uri")
        if not isinstance(location, str) or not is_private_url(location):
            raise Unavailable("the issuer's jwks_uri is no https URL")
        keys = _public_keys((await self._ask("GET", location)).get("keys"))
        if not keys:
            raise Unavailable("the issuer has no keys that can be used")
        return keys

    def _find(self, kid: str | None) -> Key | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.kid == kid), None)

    async def _fetch(self) -> None:
        """Get the keys anew, with whoever else waits for that; a failure leaves what is here."""
        task = self._begin()
        if task is not None:
            await asyncio.shield(task)

    def _begin(self) -> "asyncio.Task[None] | None":
        """Start to get the keys, unless that was tried a moment ago."""
        if self._fetching is None and self._now() - self._tried >= self._config.jwks_retry:
            self._tried = self._now()
            self._fetching = asyncio.get_running_loop().create_task(self._renew())
        return self._fetching

    async def _renew(self) -> None:
        try:
            self._keys = await self.fetch_keys()
            self._fetched = self._now()
        except Unavailable as error:
            log.warning("keys of the issuer not renewed", extra={"reason": str(error)})
        finally:
            self._fetching = None

    async def _ask(self, method: str, url: str, **request: Any) -> dict[str, Any]:
        """Return a JSON object; Unavailable for anything else, whatever the reason."""
        limit = aiohttp.ClientTimeout(total=self._config.timeout)
        try:
            # a session for each request: they are minutes apart
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.request(method, url, allow_redirects=False, **request) as response,
            ):
                if response.status != 200:
                    raise Unavailable(f"{url}: the issuer answers {response.status}")
                body = bytearray()
                async for chunk in response.content.iter_chunked(16 * 1024):
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise Unavailable(f"{url}: the issuer's answer is too long")
                answer = json.loads(body)
        except TimeoutError:
            raise Unavailable(f"{url}: the issuer does not answer") from None
        except aiohttp.ClientError as error:
            raise Unavailable(f"{url}: the issuer cannot be reached: {error}") from None
        except (ValueError, RecursionError):
            raise Unavailable(f"{url}: the issuer's answer is not JSON") from None
        if not isinstance(answer, dict):
            raise Unavailable(f"{url}: the issuer's answer is not a JSON object")
        return answer


def _public_keys(entries: object) -> list[Key]:
    """Read the keys for signatures of a JWK Set; others, and kinds unknown here, are left out."""
    keys: list[Key] = []
    for entry in entries[:MAX_KEYS] if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        kind = _KINDS.get(str(entry.get("kty")))
        if kind is None or not isinstance(entry.get("kid", ""), str):
            continue
        try:
            keys.append(kind.import_key(entry))
        except (JoseError, ValueError, TypeError) as error:
            log.warning("a key of the issuer is left out", extra={"reason": str(error)})
    return keys
