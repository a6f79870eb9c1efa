"""Verifies logins, and remembers for a few minutes which credentials were right.

A mail client opens many connections with the same password, and JMAP sends it with every request.
The 15 ms of argon2id are spent only when that pair of hash and password has not been verified in
the last minutes, and the stored hash is read again after a second. So a changed password or a
disabled account counts within a second.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from mailserver.address import parse_address
from mailserver.auth.oauth import Bearer, Source
from mailserver.auth.passwords import Passwords
from mailserver.auth.sasl import Challenge, Credentials, Mechanism, Scram, Terms, Token
from mailserver.auth.scram import ITERATIONS, SALT_LENGTH, Keys, Proven
from mailserver.auth.throttle import Throttle
from mailserver.errors import AuthenticationFailed, Invalid
from mailserver.model import Principal
from mailserver.storage import accounts
from mailserver.storage.database import Database

log = logging.getLogger(__name__)

CACHE_TIME = 300.0  # seconds
FRESH_TIME = 1.0  # seconds in which the stored hash is not read again
CACHE_SIZE = 10_000  # entries of about 200 bytes


@dataclass(frozen=True, slots=True)
class _Verified:
    stored: str  # the hash that the password was verified against
    until: float


@dataclass(frozen=True, slots=True)
class _Fresh:
    principal: Principal
    until: float


@dataclass(frozen=True, slots=True)
class Hold:
    """What somebody came by who stays connected; `Authenticator.check` looks at it again."""

    principal: Principal
    stored: str | None = field(repr=False)  # the hash of the password when they came
    bearer: Bearer | None = None  # instead of a password


class Judge(Protocol):
    """Who knows whom an access token stands for; `tokens.Tokens`, when that is configured."""

    @property
    def source(self) -> Source:
        """Where tokens come from."""
        ...

    async def login(self, token: str) -> str:
        """Return whom the token stands for; AuthenticationFailed, or Unavailable."""
        ...


class Authenticator:
    """Turns a login and a password, a proof or a token into the account they belong to."""

    def __init__(
        self,
        database: Database,
        *,
        passwords: Passwords | None = None,
        throttle: Throttle | None = None,
        tokens: Judge | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._database = database
        self._passwords = passwords or Passwords()
        self._throttle = throttle or Throttle()
        self._tokens = tokens
        self._now = monotonic
        self._key = random(32)  # the cache is worth nothing outside this process
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._fresh: OrderedDict[bytes, _Fresh] = OrderedDict()

    @property
    def takes_tokens(self) -> bool:
        """Whether there is an issuer whose tokens count."""
        return self._tokens is not None

    def terms(self, end_point: bytes | None) -> Terms:
        """Return what a connection with that channel binding can log in by."""
        return Terms(end_point, self._tokens.source if self._tokens else None)

    async def verify(self, login: str, password: str, *, peer: str) -> Principal:
        """Return who logs in; raise AuthenticationFailed, TooMany (throttled) or Unavailable."""
        tag = self._tag(login, password)
        fresh = self._fresh.get(tag)
        if fresh is not None and self._now() < fresh.until:
            return fresh.principal
        principal = await self._verify(login, password, peer)
        self._remember(tag, principal)
        return principal

    async def verify_token(self, bearer: Bearer, *, peer: str) -> Principal:
        """Return whom a token lets in; raise what `verify` raises."""
        tag = self._tag(f"token of {bearer.login}", bearer.token)
        fresh = self._fresh.get(tag)
        if fresh is not None and self._now() < fresh.until:
            return fresh.principal
        name = _normal(bearer.login) if bearer.login else ""
        await self._wait(name, peer)
        try:
            principal = await self._holder(name, bearer.token)
        except AuthenticationFailed as failure:
            log.info("token refused", extra={"peer": peer, "reason": str(failure)})
            self._throttle.failed(name, peer, self._now())
            raise
        self._throttle.succeeded(name, peer, self._now())
        self._remember(tag, principal)
        return principal

    async def named(self, login: str) -> Principal:
        """Return whom somebody trusted says that has logged in; AuthenticationFailed."""
        name = _normal(login)
        found = await accounts.credentials(self._database, name)
        if found is None or not found[2]:
            raise AuthenticationFailed("no such account, or a disabled one")
        return Principal(found[0], name)

    async def _holder(self, name: str, token: str) -> Principal:
        """Return the account of a token, which must be that of `name` if there is one."""
        if self._tokens is None:
            raise AuthenticationFailed("no tokens are taken")
        login = _normal(await self._tokens.login(token))
        if name and name != login:
            raise AuthenticationFailed("the token stands for another login")
        found = await accounts.credentials(self._database, login)
        if found is None or not found[2]:
            raise AuthenticationFailed("the token stands for no account, or a disabled one")
        return Principal(found[0], login)

    async def hold(self, principal: Principal, by: Bearer | str | None) -> Hold:
        """Return what a principal stays by: a token, a password, None for what came of one.

        Raises AuthenticationFailed when that is not so any more, or Unavailable.
        """
        stored = await self._stored(principal)
        if isinstance(by, Bearer):
            return Hold(principal, None, by)
        if by is not None and not await self._matches(principal.login, stored, by):
            raise AuthenticationFailed("a changed password")
        return Hold(principal, stored)

    async def check(self, hold: Hold) -> None:
        """Raise AuthenticationFailed when who holds on would not get in any more, or Unavailable.

        The token has expired, the password is another one, the account is disabled or gone.
        """
        if hold.bearer is not None:
            if await self._holder("", hold.bearer.token) != hold.principal:
                raise AuthenticationFailed("the token stands for another account")
        elif await self._stored(hold.principal) != hold.stored:
            raise AuthenticationFailed("a changed password")

    async def _stored(self, principal: Principal) -> str | None:
        found = await accounts.credentials(self._database, principal.login)
        if found is None or found[0] != principal.account_id or not found[2]:
            raise AuthenticationFailed("a removed or disabled account")
        return found[1]

    def _remember(self, tag: bytes, principal: Principal) -> None:
        self._fresh[tag] = _Fresh(principal, self._now() + FRESH_TIME)
        if len(self._fresh) > CACHE_SIZE:
            self._fresh.popitem(last=False)

    async def _wait(self, name: str, peer: str) -> None:
        """Let somebody who failed often wait; TooMany when too many wait."""
        wait = self._throttle.wait(name, peer, self._now())
        if wait:
            await asyncio.sleep(wait)

    def _failed(self, name: str, peer: str) -> None:
        """Take note of a guess, also in the log: whoever blocks peers in front reads it there."""
        log.info("login failed", extra={"account": name, "peer": peer})
        self._throttle.failed(name, peer, self._now())

    async def _verify(self, login: str, password: str, peer: str) -> Principal:
        name = _normal(login)
        await self._wait(name, peer)
        found = await accounts.credentials(self._database, name)
        account, stored, enabled = found or (None, None, False)
        if not await self._matches(name, stored, password) or account is None or not enabled:
            self._failed(name, peer)
            raise AuthenticationFailed("wrong login or password, or a disabled account")
        self._throttle.succeeded(name, peer, self._now())
        if stored is not None and self._passwords.needs_rehash(stored):
            await self._rehash(name, stored, password)
        return Principal(account, name)

    async def _matches(self, login: str, stored: str | None, password: str) -> bool:
        """Check the password against the stored hash, by the cache when it was right lately."""
        tag = self._tag(login, password)
        known = self._verified.get(tag)
        if known is not None:
            if known.stored == stored and self._now() < known.until:
                return True
            del self._verified[tag]
        if not await self._passwords.verify(stored, password) or stored is None:
            return False
        self._verified[tag] = _Verified(stored, self._now() + CACHE_TIME)
        if len(self._verified) > CACHE_SIZE:
            self._verified.popitem(last=False)
        return True

    async def proceed(
        self, mechanism: Mechanism, response: bytes | None, *, peer: str
    ) -> Challenge | Credentials | Principal:
        """Take the next message of a SASL exchange; a proof or a token is checked here.

        Raises Invalid, and what `verify` raises.
        """
        try:
            outcome = mechanism.step(response)
        except AuthenticationFailed:
            if isinstance(mechanism, Scram):
                self._failed(_normal(mechanism.exchange.login), peer)
            raise
        if isinstance(outcome, Challenge | Credentials):
            return outcome
        if isinstance(outcome, Bearer):
            assert isinstance(mechanism, Token)
            try:
                return await self.verify_token(outcome, peer=peer)
            except AuthenticationFailed:
                return Challenge(mechanism.exchange.refuse())
        name = _normal(outcome.login)
        if isinstance(outcome, Proven):
            return await self._proven(name, outcome.keys, peer)
        assert isinstance(mechanism, Scram)
        return Challenge(mechanism.exchange.challenge(await self._scram_keys(name, peer)))

    async def _scram_keys(self, name: str, peer: str) -> Keys:
        """Return the keys of a login; of nobody's login keys that look alike and never fit."""
        await self._wait(name, peer)
        found = await accounts.scram_keys(self._database, name)
        if found is not None and found[1] is not None:
            return Keys.read(found[1])
        salt, stored, server = (
            self._tag(name, use) for use in ("scram salt", "scram stored", "scram server")
        )
        return Keys(salt[:SALT_LENGTH], ITERATIONS, stored, server)

    async def _proven(self, name: str, keys: Keys, peer: str) -> Principal:
        found = await accounts.scram_keys(self._database, name)
        # a client may have begun long ago: the password has to be that of now
        if found is None or found[1] != keys.text() or not found[2]:
            self._failed(name, peer)
            raise AuthenticationFailed("a changed password, or a disabled account")
        self._throttle.succeeded(name, peer, self._now())
        return Principal(found[0], name)

    async def _rehash(self, login: str, stored: str, password: str) -> None:
        """Store the password under the parameters in use now, unless it was changed meanwhile."""
        renewed = await self._passwords.hash(password)
        if await accounts.replace_password(self._database, login, stored, renewed):
            log.info("password hash renewed", extra={"account": login})

    def _tag(self, login: str, password: str) -> bytes:
        text = f"{login}\0{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, hashlib.sha256)


def _normal(login: str) -> str:
    """Return the login as it is stored; what is no address is nobody's login, and is looked up."""
    try:
        return str(parse_address(login))
    except Invalid:
        return login[:320].replace("\0", "")
