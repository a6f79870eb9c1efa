"""Logins with tokens, JMAP, push, and what programs find by HTTP."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from mailserver.config.values import Secret, Section, host_name, is_private_url, networks

# With a public key only: who can check a token by a shared secret can make one.
SIGNATURES = frozenset(
    f"{family}{size}" for family in ("RS", "PS", "ES") for size in (256, 384, 512)
) | {"Ed25519"}


class Discovery(Section):
    """What mail programs and other servers are told about this server, in DNS and by HTTP."""

    host: str = Field(
        default="", description="the name that mail programs connect to; empty: server.hostname"
    )
    imaps: int = Field(default=993, ge=0, le=65535, description="public port; 0: none is told")
    imap: int = Field(default=0, ge=0, le=65535, description="the same, with STARTTLS")
    submissions: int = Field(default=465, ge=0, le=65535, description="the same, of submission")
    submission: int = Field(default=587, ge=0, le=65535, description="the same, with STARTTLS")
    jmap: int = Field(default=443, ge=0, le=65535, description="the same, of HTTPS")
    mta_sts: Literal["none", "testing", "enforce"] = Field(
        default="testing", description="the mode of the policy of our domains, RFC 8461"
    )
    mta_sts_hosts: str = Field(
        default="",
        description="hosts or patterns that the policy allows, a word each; empty: server.hostname",
    )
    mta_sts_max_age: int = Field(
        default=604800, ge=86400, le=31557600, description="seconds others keep the policy"
    )

    _check_host = field_validator("host")(host_name)


class Oauth(Section):
    """Logins with access tokens of an OpenID Connect issuer."""

    issuer: str = Field(default="", description="URL of the issuer; empty: no tokens are taken")
    audience: str = Field(
        default="", description="a word for each `aud` of which a token must have one"
    )
    login_claim: str = Field(
        default="email",
        min_length=1,
        description="the claim with the login; `email` counts with a true `email_verified` only",
    )
    scope: str = Field(default="", description="a scope that tokens must have; empty: none")
    algorithms: str = Field(
        default="RS256 PS256 ES256 Ed25519", description="signatures that are taken"
    )
    clock_skew: int = Field(default=30, ge=0, le=600, description="seconds that clocks may differ")
    jwks_refresh: float = Field(
        default=3600, gt=0, description="seconds between two looks for new keys"
    )
    jwks_retry: float = Field(
        default=30, gt=0, description="seconds until an unknown key makes another look"
    )
    timeout: float = Field(default=5, gt=0, description="seconds the issuer has for an answer")
    introspection_url: str = Field(
        default="", description="where opaque tokens are judged, RFC 7662; empty: none are taken"
    )
    client_id: str = Field(default="", description="the name of this server at introspection")
    client_secret: Secret = Field(default=Secret(""), description="its secret there")

    @property
    def discovery_url(self) -> str:
        """Where the issuer describes itself (OpenID Connect Discovery §4)."""
        return self.issuer.rstrip("/") + "/.well-known/openid-configuration"

    @field_validator("issuer", "introspection_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if url and not is_private_url(url):
            raise ValueError("should be an https URL (http on the loopback address only)")
        return url

    @field_validator("algorithms")
    @classmethod
    def _check_algorithms(cls, names: str) -> str:
        unknown = [name for name in names.split() if name not in SIGNATURES]
        if unknown or not names.split():
            raise ValueError(f"should be some of {' '.join(sorted(SIGNATURES))}")
        return names


JMAP_SESSION = "/.well-known/jmap"  # below `public_url` (RFC 8620 §2.2)


class Http(Section):
    """JMAP and the web face."""

    public_url: str = Field(
        default="", description="base of all URLs shown to clients; empty: as asked"
    )
    max_request_size: int = Field(
        default=10_000_000, ge=1024, description="bytes of one API request"
    )
    max_upload_size: int = Field(default=50_000_000, ge=1024, description="bytes of one upload")
    max_connections: int = Field(default=2000, ge=1, description="of one listener")
    max_connections_per_ip: int = Field(
        default=1200,
        ge=1,
        description="of these from one IPv4 address or IPv6 /64 that is not in forwarded_networks",
    )
    forwarded_networks: str = Field(
        default="",
        description="networks, a word each, of proxies that say for whom they ask",
    )
    forwarded_field: Literal["x-forwarded-for", "forwarded"] = Field(
        default="x-forwarded-for",
        description="the header field in which they do, each by adding to it",
    )
    lenient_using: bool = Field(
        default=False,
        description="take `mail` in `using` for all that goes with mail, "
        "for clients that say too little",
    )

    @field_validator("forwarded_networks")
    @classmethod
    def _check_networks(cls, text: str) -> str:
        return networks(text)


class Push(Section):
    """Messages to the push services that devices name."""

    allow_private: bool = Field(
        default=False, description="send also to addresses that are not of the Internet; for tests"
    )
    ca: Path | None = Field(
        default=None, description="PEM file of further authorities that push services may be from"
    )
    contact: str = Field(
        default="",
        description="mailto: or https: URL that push services see, RFC 8292; empty: postmaster",
    )
