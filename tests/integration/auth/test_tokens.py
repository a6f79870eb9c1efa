"""Access tokens of an issuer that is really asked."""

import asyncio
import base64
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import RSAKey

from mailserver.auth.credentials import Authenticator
from mailserver.auth.issuer import Issuer
from mailserver.auth.oauth import Bearer
from mailserver.auth.tokens import Tokens
from mailserver.config import Oauth
from mailserver.errors import AuthenticationFailed, TooMany, Unavailable
from mailserver.mail.context import Mail
from mailserver.model import Account, Principal
from tests import oidc

LOGIN = "alice@example.test"


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def judge(config: Oauth, clock: Clock | None = None) -> Tokens:
    return Tokens(config, Issuer(config, monotonic=clock or Clock()))


async def refused(tokens: Tokens, token: str) -> str:
    with pytest.raises(AuthenticationFailed) as failure:
        await tokens.login(token)
    return str(failure.value)


@pytest.mark.parametrize("kind", ["RSA", "EC", "OKP"])
async def test_a_token_stands_for_its_login(issuer: oidc.Issuer, kind: str) -> None:
    issuer.keys = [oidc.make_key(kind, "first"), oidc.make_key(kind, "second")]
    tokens = judge(issuer.config())
    assert await tokens.login(issuer.token()) == LOGIN
    assert await tokens.login(issuer.token("bob@example.test", key=issuer.keys[1])) != LOGIN
    # the keys were fetched once, for both
    assert issuer.asked == ["discovery", "keys"]


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": timedelta(seconds=-31)}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"nbf": timedelta(hours=1)}, "not yet valid"),
        ({"iat": timedelta(hours=1)}, "in the future"),
        ({"iss": "https://elsewhere.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": ["other", "account"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": {"mail": 1}}, "aud"),
        ({"email": None}, "no email"),
        ({"email": ["alice@example.test"]}, "no email"),
        ({"email_verified": False}, "not verified"),
        ({"email_verified": None}, "not verified"),
        ({"email_verified": "true"}, "not verified"),
    ],
)
async def test_claims_that_do_not_hold(
    issuer: oidc.Issuer, claims: dict[str, Any], reason: str
) -> None:
    now = datetime.now(UTC)  # when the tests were collected is long ago
    stated: dict[str, Any] = {
        name: int((now + value).timestamp()) if isinstance(value, timedelta) else value
        for name, value in claims.items()
    }
    assert reason in await refused(judge(issuer.config()), issuer.token(**stated))


async def test_clocks_may_differ_a_little(issuer: oidc.Issuer) -> None:
    tokens = judge(issuer.config(clock_skew=60))
    token = issuer.token(exp=int(time.time()) - 10, nbf=int(time.time()) + 10)
    assert await tokens.login(token) == LOGIN


async def test_another_claim_and_a_scope(issuer: oidc.Issuer) -> None:
    tokens = judge(issuer.config(login_claim="preferred_username", scope="mail"))
    named: dict[str, Any] = {"email": None, "preferred_username": LOGIN}
    assert await tokens.login(issuer.token(scope="openid mail", **named)) == LOGIN
    assert "scope" in await refused(tokens, issuer.token(scope="openid email", **named))
    assert "scope" in await refused(tokens, issuer.token(**named))


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_forged_signatures(issuer: oidc.Issuer) -> None:
    tokens = judge(issuer.config())
    good = issuer.token()
    header, claims, signature = good.split(".")
    # no signature at all
    for algorithm in ("none", "None", "NONE"):
        forged = f"{part({'alg': algorithm, 'kid': 'rsa'})}.{claims}."
        assert "algorithm" in await refused(tokens, forged)
    # the public key, which everybody has, taken for a shared secret
    public = issuer.keys[0].public_key
    for encoding in (Encoding.PEM, Encoding.DER):
        secret = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        signed = f"{part({'alg': 'HS256', 'kid': 'rsa'})}.{claims}"
        mac = hmac.digest(secret, signed.encode(), "sha256")
        forged = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        assert "algorithm" in await refused(tokens, forged)
    # somebody else's key under a name that the issuer uses, also brought along in the header
    stranger = RSAKey.generate_key(2048, {"kid": "rsa"})
    assert "hold" in await refused(tokens, issuer.token(key=stranger))
    carried = {"jwk": stranger.as_dict(private=False)}
    assert "hold" in await refused(tokens, issuer.token(key=stranger, header=carried))
    # the right key by another algorithm, and the wrong kind of key
    swapped = f"{part({'alg': 'ES256', 'kid': 'rsa'})}.{claims}.{signature}"
    assert "hold" in await refused(tokens, swapped)
    # other claims under the signature
    other = part({**jwt.decode(good, issuer.keys[0]).claims, "email": "bob@example.test"})
    assert "hold" in await refused(tokens, f"{header}.{other}.{signature}")
    # an extension that must be understood
    critical = part({"alg": "RS256", "kid": "rsa", "crit": ["exp"], "exp": 1})
    assert "Unsupported" in await refused(tokens, f"{critical}.{claims}.{signature}")


@pytest.mark.parametrize(
    "token",
    ["", "opaque", "..", "a.b.c", "e30.e30.", f"{part([])}.x.y", f"{part({'kid': 1})}.x.y",
     f"{part('[' * 5000)}.x.y", "a.b.c.d.e", "x" * 20000],
)  # fmt: skip
async def test_what_is_no_token(issuer: oidc.Issuer, token: str) -> None:
    await refused(judge(issuer.config()), token)
    assert "keys" not in issuer.asked


async def test_keys_rotate(issuer: oidc.Issuer) -> None:
    clock = Clock()
    tokens = judge(issuer.config(jwks_retry=30), clock)
    await tokens.login(issuer.token())
    issuer.keys = [oidc.make_key("EC", "new")]
    # asked a moment ago: not again for every unknown key that somebody thinks of
    assert "unknown key" in await refused(tokens, issuer.token())
    assert issuer.asked.count("keys") == 1
    clock.now += 31
    assert await tokens.login(issuer.token()) == LOGIN
    for number in range(20):
        await refused(tokens, issuer.token(header={"kid": f"guess-{number}"}))
    assert issuer.asked.count("keys") == 2


async def test_many_logins_at_once_ask_once(issuer: oidc.Issuer) -> None:
    tokens = judge(issuer.config())
    token = issuer.token()
    assert set(await asyncio.gather(*(tokens.login(token) for _ in range(50)))) == {LOGIN}
    assert issuer.asked == ["discovery", "keys"]


async def test_the_issuer_is_away_for_a_while(issuer: oidc.Issuer) -> None:
    clock = Clock()
    tokens = judge(issuer.config(jwks_refresh=600), clock)
    await issuer.stop()
    with pytest.raises(Unavailable):
        await tokens.login(issuer.token())
    await issuer.start()
    with pytest.raises(Unavailable):  # it was asked a moment ago
        await tokens.login(issuer.token())
    clock.now += 31
    assert await tokens.login(issuer.token()) == LOGIN
    await issuer.stop()
    clock.now += 3600  # the keys are old, and as good as any
    assert await tokens.login(issuer.token()) == LOGIN
    assert "unknown key" in await refused(tokens, issuer.token(header={"kid": "other"}))
    clock.now += 86400  # but not for ever
    with pytest.raises(Unavailable):
        await tokens.login(issuer.token())


@pytest.mark.parametrize(
    ("document", "body", "reason"),
    [
        ({"issuer": "https://elsewhere.example"}, None, "calls itself"),
        ({"jwks_uri": "http://192.0.2.1/keys"}, None, "https"),
        ({"jwks_uri": 5}, None, "https"),
        ({}, b"<html>", "not JSON"),
        ({}, b"[]", "not a JSON object"),
        ({}, b"[" * 100_000, "not JSON"),
        ({}, b'{"keys": [{"kty": "oct", "k": "AAAA"}, 5, {"kty": "RSA"}]}', "no keys"),
        ({}, b'{"keys": {}}', "no keys"),
        ({}, b" " * 300_000, "too long"),
    ],
)
async def test_an_issuer_that_talks_nonsense(
    issuer: oidc.Issuer, document: dict[str, Any], body: bytes | None, reason: str
) -> None:
    issuer.document, issuer.body = document, body
    with pytest.raises(Unavailable, match=reason):
        await Issuer(issuer.config()).fetch_keys()


async def test_an_issuer_that_says_nothing() -> None:
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(
        lambda reader, writer: accepted.append(writer), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    config = Oauth(issuer=f"http://127.0.0.1:{port}", audience="mail", timeout=0.1)
    with pytest.raises(Unavailable, match="does not answer"):
        await Issuer(config).fetch_keys()
    for writer in accepted:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_opaque_tokens_are_judged_by_the_issuer(issuer: oidc.Issuer) -> None:
    about = {"active": True, "aud": "mail", "email": LOGIN, "email_verified": True}
    issuer.opaque = {
        "good": about,
        "stale": {**about, "exp": int(time.time()) - 100},
        "foreign": {**about, "iss": "https://elsewhere.example"},
        "other": {**about, "aud": "other"},
        "nobody": {"active": True, "aud": "mail"},
        "odd": {**about, "active": "true"},
    }
    tokens = judge(issuer.introspecting())
    for _ in range(3):
        assert await tokens.login("good") == LOGIN
    assert issuer.asked == ["introspection"]
    for token in ("stale", "foreign", "other", "nobody", "odd", "unknown"):
        await refused(tokens, token)
    await issuer.stop()
    assert await tokens.login("good") == LOGIN  # for a minute
    with pytest.raises(Unavailable):
        await tokens.login("another")


class TestAccounts:
    def authenticator(self, mail: Mail, issuer: oidc.Issuer) -> Authenticator:
        return Authenticator(mail.database, passwords=mail.passwords, tokens=judge(issuer.config()))

    async def test_a_token_lets_its_account_in(
        self, mail: Mail, alice: Account, issuer: oidc.Issuer
    ) -> None:
        authenticator = self.authenticator(mail, issuer)
        token = issuer.token("Alice@EXAMPLE.test")
        for login in ("", LOGIN, "ALICE@example.test"):
            found = await authenticator.verify_token(Bearer(token, login), peer="192.0.2.1")
            assert found == Principal(alice.id, LOGIN)

    async def test_a_token_lets_nobody_else_in(
        self, mail: Mail, alice: Account, bob: Account, issuer: oidc.Issuer
    ) -> None:
        authenticator = self.authenticator(mail, issuer)
        await mail.database.execute("UPDATE account SET enabled = false WHERE id = $1", bob.id)
        for token, login in (
            (issuer.token(), "bob@example.test"),
            (issuer.token("nobody@example.test"), ""),
            (issuer.token("bob@example.test"), ""),  # whose account is disabled
        ):
            with pytest.raises(AuthenticationFailed):
                await authenticator.verify_token(Bearer(token, login), peer="192.0.2.1")

    async def test_guessing_is_slowed_down(
        self, mail: Mail, alice: Account, issuer: oidc.Issuer
    ) -> None:
        authenticator = self.authenticator(mail, issuer)
        bad = Bearer(issuer.token(aud="other"), LOGIN)
        for _ in range(4):
            with pytest.raises(AuthenticationFailed):
                await authenticator.verify_token(bad, peer="192.0.2.9")
        attempts = [
            asyncio.ensure_future(authenticator.verify_token(bad, peer="192.0.2.9"))
            for _ in range(100)
        ]
        _, waiting = await asyncio.wait(attempts, timeout=0)
        for attempt in waiting:
            attempt.cancel()
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert any(isinstance(outcome, TooMany) for outcome in outcomes)

    async def test_without_an_issuer_no_token_counts(
        self, mail: Mail, alice: Account, issuer: oidc.Issuer
    ) -> None:
        authenticator = Authenticator(mail.database, passwords=mail.passwords)
        with pytest.raises(AuthenticationFailed):
            await authenticator.verify_token(Bearer(issuer.token()), peer="192.0.2.1")
