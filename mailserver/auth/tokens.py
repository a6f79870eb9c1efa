"""Access tokens: who they stand for.

A JSON Web Token is checked here with the issuer's public keys; any other token only the issuer can
judge, by introspection (RFC 7662), when that is configured.
"""

import base64
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError

from mailserver.auth.issuer import Issuer
from mailserver.auth.oauth import Source
from mailserver.config import Oauth
from mailserver.errors import AuthenticationFailed

INTROSPECTED_TIME = 60.0  # seconds that an issuer's word is not asked for again
INTROSPECTED_SIZE = 10_000  # tokens
MAX_TOKEN = 16 * 1024  # characters


class Tokens:
    """Turns an access token into the login it was given for."""

    def __init__(
        self,
        config: Oauth,
        issuer: Issuer,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the clock in seconds since 1970, as tokens have them."""
        self.source = Source(config.discovery_url, config.scope)
        self._config = config
        self._issuer = issuer
        self._clock = clock
        self._registry = jws.JWSRegistry(
            algorithms=config.algorithms.split(), strict_check_header=False
        )
        self._registry.max_header_length = 4096  # with a chain of certificates in it
        self._introspected: OrderedDict[bytes, tuple[Mapping[str, Any], float]] = OrderedDict()

    async def login(self, token: str) -> str:
        """Return whom the token stands for; AuthenticationFailed, or Unavailable."""
        if len(token) > MAX_TOKEN:
            raise AuthenticationFailed("the token is too long")
        if token.count(".") == 2:
            claims = await self._signed(token)
        elif token and self._config.introspection_url:
            claims = await self._introspect(token)
        else:
            raise AuthenticationFailed("not a token that can be checked")
        return self._login(claims)

    async def _signed(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a JSON Web Token whose signature is right."""
        header = _header(token)
        if header.get("alg") not in self._config.algorithms.split():
            raise AuthenticationFailed("the token is signed by another algorithm")
        key = await self._issuer.key(header.get("kid"))
        try:
            claims = jwt.decode(token, key, registry=self._registry).claims
            self._check(claims, introspected=False)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise AuthenticationFailed(f"the token does not hold: {error}") from None
        return claims

    async def _introspect(self, token: str) -> Mapping[str, Any]:
        """Return the claims that the issuer knows of a token."""
        tag = hashlib.sha256(token.encode()).digest()
        known = self._introspected.get(tag)
        if known is not None and self._clock() < known[1]:
            claims = known[0]
        else:
            claims = await self._issuer.introspect(token)
            self._introspected[tag] = claims, self._clock() + INTROSPECTED_TIME
            if len(self._introspected) > INTROSPECTED_SIZE:
                self._introspected.popitem(last=False)
        try:
            self._check(claims, introspected=True)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise AuthenticationFailed(f"the token does not hold: {error}") from None
        return claims

    def _check(self, claims: Mapping[str, Any], *, introspected: bool) -> None:
        """Check whose the token is, for whom, and when; what an issuer need not repeat may miss."""
        jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=self._config.clock_skew,
            iss={"essential": not introspected, "value": self._config.issuer},
            aud={"essential": True, "values": self._config.audience.split()},
            exp={"essential": not introspected},
        ).validate(dict(claims))

    def _login(self, claims: Mapping[str, Any]) -> str:
        if self._config.scope and self._config.scope not in _words(claims.get("scope")):
            raise AuthenticationFailed("the token has not the scope")
        name = self._config.login_claim
        login = claims.get(name)
        if not isinstance(login, str) or not login:
            raise AuthenticationFailed(f"the token has no {name}")
        if name == "email" and claims.get("email_verified") is not True:
            # whoever can give himself any address at the issuer would be anybody here
            raise AuthenticationFailed("the address in the token is not verified")
        return login


def _header(token: str) -> dict[str, Any]:
    """Return what a JSON Web Token says of its signature, before that is checked."""
    encoded = token.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError):  # binascii.Error is a ValueError
        raise AuthenticationFailed("the token is malformed") from None
    if not isinstance(header, dict) or not isinstance(header.get("kid"), str | None):
        raise AuthenticationFailed("the token is malformed")
    return header


def _words(scope: object) -> list[str]:
    return scope.split() if isinstance(scope, str) else []
