"""A small OpenID Connect issuer on loopback: discovery, keys, introspection, and its faults."""

import functools
import time
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, KeyParameters, KeySet, OKPKey, RSAKey

from mailserver.config import Oauth, Secret
from tests.running import free_port

AUDIENCE = "mail"
ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "Ed25519"}
SigningKey = RSAKey | ECKey | OKPKey


@functools.cache
def make_key(kind: str, kid: str) -> SigningKey:
    parameters: KeyParameters = {"kid": kid, "use": "sig"}
    if kind == "RSA":
        return RSAKey.generate_key(2048, parameters)
    if kind == "EC":
        return ECKey.generate_key("P-256", parameters)
    return OKPKey.generate_key("Ed25519", parameters)


class Issuer:
    """Issues tokens and answers for them."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[SigningKey] = [make_key("RSA", "rsa"), make_key("EC", "ec")]
        self.opaque: dict[str, dict[str, Any]] = {}  # what introspection says of each token
        self.asked: list[str] = []  # paths
        self.document: dict[str, Any] = {}  # in place of what discovery says
        self.body: bytes | None = None  # in place of the keys
        self._runner: web.AppRunner | None = None
        self._port = free_port()  # also after it was stopped for a while

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/realm/.well-known/openid-configuration", self._discovery)
        application.router.add_get("/realm/certs", self._certs)
        application.router.add_post("/realm/introspect", self._introspect)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self.url = f"http://127.0.0.1:{self._port}/realm"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def config(self, **changes: Any) -> Oauth:
        return Oauth(issuer=self.url, audience=AUDIENCE, **changes)

    def introspecting(self, **changes: Any) -> Oauth:
        url = f"{self.url}/introspect"
        return self.config(
            introspection_url=url, client_id="mx", client_secret=Secret("s3c:ret"), **changes
        )

    def token(
        self,
        login: str = "alice@example.test",
        *,
        key: SigningKey | None = None,
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """Return a token; a claim that is None is left out."""
        key = key or self.keys[0]
        about = {"alg": ALGORITHMS[key.key_type], "kid": key.kid, **(header or {})}
        now = int(time.time())
        stated = {
            "iss": self.url,
            "aud": [AUDIENCE, "account"],
            "exp": now + 300,
            "iat": now,
            "email": login,
            "email_verified": True,
            **claims,
        }
        stated = {name: value for name, value in stated.items() if value is not None}
        return jwt.encode(about, stated, key, algorithms=[about["alg"]])

    async def _discovery(self, request: web.Request) -> web.Response:
        self.asked.append("discovery")
        document = {"issuer": self.url, "jwks_uri": f"{self.url}/certs", **self.document}
        return web.json_response(document)

    async def _certs(self, request: web.Request) -> web.Response:
        self.asked.append("keys")
        if self.body is not None:
            return web.Response(body=self.body)
        return web.json_response(KeySet(list(self.keys)).as_dict(private=False))

    async def _introspect(self, request: web.Request) -> web.Response:
        self.asked.append("introspection")
        if request.headers.get("Authorization") != "Basic bXg6czNjJTNBcmV0":
            return web.Response(status=401)
        form = await request.post()
        known = self.opaque.get(str(form["token"]))
        return web.json_response({"active": False} if known is None else known)
