"""The server itself, the services it needs, and where it listens."""

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from mailserver.config.values import Secret, Section, host_name, networks


class Server(Section):
    """Who this server says it is."""

    hostname: str = Field(
        default="localhost", min_length=1, description="the name in greetings, Received and TLS"
    )
    workers: int = Field(
        default=0, ge=0, le=256, description="processes that serve; 0: one for each core"
    )
    grace: float = Field(
        default=20, ge=0, description="seconds that running work has to end at a stop"
    )
    secret_key: Secret = Field(
        default=Secret(""),
        description="seals passwords of smarthosts and private keys in the database",
    )
    stop_delay: float = Field(
        default=0,
        ge=0,
        description="seconds at a stop in which connections are still taken, and /readyz says no",
    )

    _check_hostname = field_validator("hostname")(host_name)

    def share(self, amount: int) -> int:
        """Return what one worker has of something that all of the server share."""
        return max(1, amount // max(1, self.workers))


class Embedded(Section):
    """PostgreSQL and SeaweedFS run by this program, for one machine."""

    enabled: bool = Field(
        default=False, description="start both; `database` and `s3` are then ignored"
    )
    data_dir: Path = Field(default=Path(".data"), description="where they keep their files")


_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:\s]*)(?::[0-9]{1,5})?")  # of a DSN, with its port


def _check_dsn(dsn: Secret) -> Secret:
    """Check the form of a DSN; what is said of it has no password in it."""
    scheme, _, rest = dsn.get_secret_value().partition("://")
    place = rest.partition("?")[0].rpartition("@")[2].partition("/")[0]
    if dsn.get_secret_value() and not (
        scheme in ("postgresql", "postgres") and all(map(_HOST.fullmatch, place.split(",")))
    ):
        raise ValueError("should be a DSN, as postgresql://user:password@host/database")
    return dsn


class Database(Section):
    """PostgreSQL."""

    url: Secret = Field(default=Secret(""), description="DSN, may point to a pooler")
    direct_url: Secret = Field(
        default=Secret(""), description="DSN past a transaction pooler, for LISTEN; empty: the same"
    )
    notices: Literal["auto", "listen", "poll"] = Field(
        default="auto",
        description="how processes hear of each other's changes: LISTEN, or a look every second; "
        "auto: a look when direct_url leads through a pooler too",
    )
    pool_size: int = Field(
        default=20,
        ge=4,
        le=1000,
        description="connections of all workers together, but at least 4 for each",
    )

    @field_validator("url", "direct_url")
    @classmethod
    def _check_dsns(cls, dsn: Secret) -> Secret:
        return _check_dsn(dsn)


class S3(Section):
    """The bucket that keeps message bodies."""

    endpoint: str = Field(default="", description="http://host:port of the S3 service")
    bucket: str = Field(
        default="mail", description="name of the bucket; it must exist or be creatable"
    )
    prefix: str = Field(default="", description="put before every object name")
    region: str = Field(default="us-east-1", description="region in request signatures")
    access_key: Secret = Field(default=Secret(""), description="access key id")
    secret_key: Secret = Field(default=Secret(""), description="secret access key")

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and not (parts.scheme in ("http", "https") and parts.hostname):
            raise ValueError("should be an http or https URL, as http://seaweedfs:8333")
        return url


class Listener(Section):
    """One address and port; port 0 picks a free one."""

    enabled: bool = Field(default=True, description="false: nobody listens here")
    host: str = Field(
        default="127.0.0.1", min_length=1, description="address; 0.0.0.0 or :: is every one"
    )
    port: int = Field(default=0, ge=0, le=65535, description="TCP port; 0 picks a free one")
    proxy_networks: str = Field(
        default="",
        description="networks, a word each, of proxies that name the client by the PROXY protocol",
    )

    _check_networks = field_validator("proxy_networks")(networks)


class Listeners(Section):
    """Where the server listens: high ports, mapped by the service in front."""

    smtp: Listener = Listener(port=2525)
    submission: Listener = Listener(port=2587)
    submissions: Listener = Listener(port=2465)
    lmtp: Listener = Listener(enabled=False, port=2424)
    relay: Listener = Listener(enabled=False, port=2526)
    imap: Listener = Listener(port=2143)
    imaps: Listener = Listener(port=2993)
    http: Listener = Listener(port=8080)
    https: Listener = Listener(port=8443)


class Tls(Section):
    """The certificate of all listeners; re-read when the files change."""

    certificate: Path | None = Field(default=None, description="PEM file with the chain")
    key: Path | None = Field(default=None, description="PEM file with the private key")
    # QUIRK(mutt, neomutt): choose it wherever it is offered, and have no channel binding
    channel_binding: bool = Field(
        default=False, description="offer SCRAM-SHA-256-PLUS, bound to the certificate"
    )


class Dns(Section):
    """The resolvers that are asked for the servers of other domains."""

    servers: str = Field(
        default="",
        description="a word for each, address or address:port; empty: those of the system",
    )
    timeout: float = Field(default=4, gt=0, description="seconds one resolver has for an answer")
    attempts: int = Field(default=2, ge=1, le=10, description="rounds through all resolvers")
    validating: bool = Field(
        default=False,
        description="they check DNSSEC and nobody can forge their answers on the way here",
    )
