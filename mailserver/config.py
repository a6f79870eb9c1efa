"""The configuration: infrastructure only, read once, passed as a value.

Sources, the later one wins: defaults, the TOML file, environment variables
`MAILSERVER_SECTION__KEY`, and for secrets `MAILSERVER_SECTION__KEY_FILE`, the path of a file with
the value. Domains, accounts and aliases are not here: they live in PostgreSQL.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from mailserver.address import parse_address
from mailserver.errors import Invalid
from mailserver.networks import Networks

# With a public key only: who can check a token by a shared secret can make one.
SIGNATURES = frozenset(
    f"{family}{size}" for family in ("RS", "PS", "ES") for size in (256, 384, 512)
) | {"Ed25519"}


class Secret(SecretStr):
    """A value that is never shown, and the file that has its newest version, if any."""

    def __init__(self, value: str, path: Path | None = None) -> None:
        super().__init__(value)
        self.path = path

    @classmethod
    def from_file(cls, path: Path) -> "Secret":
        """Read a secret from a file, without the line end that editors put there."""
        return cls(path.read_text(encoding="utf-8").strip(), path)

    def current(self) -> str:
        """Return the value as it is now: credentials in a file may be renewed every hour."""
        if self.path is None:
            return self.get_secret_value()
        return self.path.read_text(encoding="utf-8").strip()


def is_private_url(url: str) -> bool:
    """Tell whether nobody on the way can read or change what is fetched from a URL."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    on_this_machine = host in ("localhost", "127.0.0.1", "::1")
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and on_this_machine))


def networks(text: str) -> str:
    """Check the words of a key that are networks; ValueError names the one that is none."""
    try:
        Networks(text)
    except Invalid as error:
        raise ValueError(str(error)) from None
    return text


class Section(BaseModel):
    """A table of the configuration file; a key nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
    """Who this server says it is."""

    hostname: str = Field(
        default="localhost", description="the name in greetings, Received and TLS"
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


class Smtp(Section):
    """Limits of SMTP and submission."""

    max_message_size: int = Field(default=50 * 1024 * 1024, ge=1024, description="bytes, RFC 1870")
    max_recipients: int = Field(
        default=1000, ge=100, description="per message, RFC 5321 §4.5.3.1.8"
    )
    max_connections: int = Field(default=2000, ge=1, description="all SMTP listeners together")
    max_connections_per_ip: int = Field(
        default=1200, ge=1, description="of these from one IPv4 address or IPv6 /64"
    )
    command_timeout: float = Field(default=300, gt=0, description="seconds, RFC 5321 §4.5.3.2")
    data_timeout: float = Field(default=180, gt=0, description="seconds between two reads of data")
    subaddress_separator: str = Field(
        default="+",
        min_length=1,
        max_length=1,
        description="alice+list@ is delivered to alice@, RFC 5233",
    )
    max_delay: int = Field(
        default=30 * 86400,
        ge=0,
        description="seconds a message may be held before it is sent, RFC 4865; 0: none is held",
    )
    vacation_interval: float = Field(
        default=7 * 86400,
        ge=86400,
        description="seconds until a sender gets a second vacation response, RFC 5230 §4.1",
    )
    greeting_pause: float = Field(
        default=1,
        ge=0,
        le=30,
        description="seconds strangers wait to be greeted on port 25; who speaks first is refused",
    )
    error_pause: float = Field(
        default=2, ge=0, le=30, description="seconds strangers wait for each of many refusals"
    )
    xclient_networks: str = Field(
        default="",
        description="networks, a word each, of relays that may say for whom they speak (XCLIENT)",
    )

    lmtp_networks: str = Field(
        default="127.0.0.0/8 ::1",
        description="networks, a word each, of servers that deliver by LMTP",
    )
    relay_networks: str = Field(
        default="", description="networks, a word each, that send by `listeners.relay`"
    )
    relay_domains: str = Field(
        default="", description="a word for each domain as which they send, in From and envelope"
    )
    relay_account: str = Field(
        default="", description="the account of relayed mail whose sender is no address here"
    )
    relay_rate: int = Field(
        default=10_000, ge=0, description="messages in an hour of one of their addresses; 0: any"
    )

    _check_networks = field_validator("xclient_networks", "lmtp_networks", "relay_networks")(
        networks
    )

    catch_outbound: bool = Field(
        default=False, description="queue mail to other domains as caught: shown, never sent"
    )


ADDRESS = re.compile(r"unix:/\S+|(https?://)?([\w.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


class Engine(Section):
    """A program beside this server that looks at mail which arrives."""

    kind: Literal["spamd", "rspamd", "clamd", "milter", "icap"]
    address: str  # a word for each; the next is asked when one fails
    name: str = ""  # in traces, headers and metrics
    timeout: float = Field(default=15, gt=0, le=300)  # seconds for a message, at all addresses
    on_failure: Literal["accept", "defer"] = "accept"
    on_virus: Literal["reject", "junk"] = "reject"
    max_size: int = Field(default=20 * 1024 * 1024, ge=1024)  # octets; it is not shown larger ones
    weight: float = 1  # its scores count times this
    obey: bool = False  # what it wants done is done, beside its score
    service: str = ""  # of ICAP: the path of its URI
    user: str = ""  # of spamd: whose preferences count

    @property
    def label(self) -> str:
        """Return the name by which it goes."""
        return self.name or self.kind

    @field_validator("address")
    @classmethod
    def _check_address(cls, words: str) -> str:
        if not words.split() or not all(map(ADDRESS.fullmatch, words.split())):
            raise ValueError("should be host:port or unix:/path, a word for each")
        return words

    @field_validator("name", "service", "user")
    @classmethod
    def _check_words(cls, text: str) -> str:
        if not re.fullmatch(r"[\w./?=&@+-]*", text, re.ASCII):
            raise ValueError("should be one word of letters, digits and ./?=&@+-_")
        return text


def _from_json(value: object) -> object:
    """Read a list that an environment variable has as JSON."""
    return json.loads(value) if isinstance(value, str) else value


class Sending(Section):
    """How much a user may send, and when an account is held as stolen. 0: any number."""

    messages_per_hour: int = Field(default=500, ge=0, description="messages of one account")
    messages_per_day: int = Field(default=3000, ge=0, description="messages of one account")
    recipients_per_hour: int = Field(default=2000, ge=0, description="recipients of one account")
    recipients_per_day: int = Field(default=10_000, ge=0, description="recipients of one account")
    new_recipients_per_hour: int = Field(
        default=500, ge=0, description="to whom it never sent before; beyond that it is held"
    )
    refused_per_hour: int = Field(
        default=100,
        ge=0,
        description="recipients that other servers refuse; beyond that it is held",
    )
    exempt: str = Field(default="", description="a word for each login without these limits")


class Limits(Section):
    """How much strangers may send; all processes count together. 0: any number."""

    connections_per_ip: int = Field(default=300, ge=0, description="in a minute")
    connections_per_network: int = Field(
        default=1500, ge=0, description="in a minute, from one IPv4 /24 or IPv6 /64"
    )
    errors_per_ip: int = Field(
        default=500, ge=0, description="in an hour; a refused recipient is 1, a bad command is 10"
    )
    messages_per_sender: int = Field(
        default=20_000, ge=0, description="in an hour, by one address as the reverse-path"
    )
    messages_per_recipient: int = Field(
        default=2000, ge=0, description="in an hour, to one address"
    )


class Greylisting(Section):
    """Who comes for the first time is asked to come again, before a message is sent."""

    mode: Literal["off", "suspicious", "on"] = Field(
        default="suspicious",
        description="who is asked: nobody, clients that look like none that comes twice, all new",
    )
    delay: float = Field(default=60, ge=0, description="seconds until it may come again")
    retry_time: float = Field(
        default=2 * 86400, gt=0, description="seconds in which it has to come again"
    )
    known_time: float = Field(
        default=60 * 86400,
        gt=0,
        description="seconds that who came again, or sent good mail, is known",
    )


class Antispam(Section):
    """The checks of mail from other servers."""

    enabled: bool = Field(default=True, description="false: mail is taken as it comes")
    junk_score: float = Field(
        default=5, gt=0, description="from this score on a message goes to Junk"
    )
    reject_score: float = Field(
        default=15, gt=0, description="from this score on a message is refused"
    )
    time_limit: float = Field(
        default=20,
        gt=0,
        le=300,
        description="seconds all checks of one message have; it is delivered without the others",
    )
    trusted_networks: str = Field(
        default="", description="a word for each network whose mail is not checked"
    )
    trace_time: float = Field(
        default=30 * 86400,
        ge=0,
        description="seconds that it is remembered what became of each message",
    )
    engines: Annotated[list[Engine], BeforeValidator(_from_json)] = Field(
        default=[], description="programs that look at mail: see Engines"
    )

    _check_networks = field_validator("trusted_networks")(networks)

    dns_lists: str = Field(
        default="",
        description="a word for each list in DNS that is asked, `zen dnswl=0.5`; none by default",
    )
    dns_lists_file: Path | None = Field(
        default=None, description="TOML file that describes further lists"
    )
    dns_list_keys: Secret = Field(
        default=Secret(""), description="keys of lists that need one: `zen-dqs=KEY`, a word each"
    )
    limits: Limits = Limits()
    greylisting: Greylisting = Greylisting()

    @model_validator(mode="after")
    def _junk_is_not_refused(self) -> Self:
        if self.reject_score < self.junk_score:
            raise ValueError("antispam.reject_score cannot be smaller than antispam.junk_score")
        return self

    @field_validator("engines")
    @classmethod
    def _check_engines(cls, engines: list[Engine]) -> list[Engine]:
        if len({engine.label for engine in engines}) < len(engines):
            raise ValueError("should have a `name` each")
        return engines

    @model_validator(mode="after")
    def _engines_have_time(self) -> Self:
        slow = [each.label for each in self.engines if each.timeout >= self.time_limit]
        if slow:  # what follows from a failure would never come about
            raise ValueError(f"antispam.time_limit should be larger than the timeout of {slow[0]}")
        return self


class Content(Section):
    """The filter that looks at what messages say, and learns."""

    enabled: bool = Field(default=True, description="false: only the other checks judge mail")
    rules: str = Field(
        default="",
        description="a word for each folder with more rules in the format of SpamAssassin",
    )
    learn_from_users: bool = Field(
        default=True, description="what users say is spam also counts for all others"
    )
    minimum_lessons: int = Field(
        default=5, ge=1, description="from how many lessons on what an account taught counts"
    )
    time_budget: float = Field(
        default=0.5, gt=0, le=10, description="seconds that the rules have for one message"
    )

    def folders(self) -> list[Path]:
        """Return the folders with rules."""
        return [Path(word) for word in self.rules.split()]


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


class Authentication(Section):
    """Whether mail from other servers is from whom it says."""

    suffix_list: bool = Field(
        default=False,
        description="DMARC as it was (RFC 7489): domains by the public suffix list, not by DNS",
    )
    trusted_sealers: str = Field(
        default="",
        description="a word for each domain of a forwarder or mailing list whose ARC seal is "
        "believed: mail that it found to pass is not held against DMARC policies",
    )


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


class Outbound(Section):
    """Delivery to other servers, and the queue of what waits for it."""

    enabled: bool = Field(default=True, description="false: this process delivers nothing")
    port: int = Field(default=25, ge=1, le=65535, description="TCP port of other servers")
    concurrency: int = Field(
        default=100, ge=1, le=5000, description="connections of one process at a time"
    )
    destination_concurrency: int = Field(
        default=20, ge=1, le=1000, description="of these to one destination at most"
    )
    connection_messages: int = Field(
        default=100, ge=1, description="messages sent over one connection"
    )
    retry_first: float = Field(
        default=300, gt=0, description="seconds to the second attempt; the pause doubles each time"
    )
    retry_longest: float = Field(default=14400, gt=0, description="seconds between two attempts")
    history: float = Field(
        default=7 * 86400, ge=0, description="seconds that finished recipients can be looked at"
    )
    own_names: str = Field(
        default="", description="further host names and addresses of this server, a word each"
    )


class Reports(Section):
    """Reports between mail systems about DMARC and TLS."""

    addresses: str = Field(
        default="",
        description="a word for each address here whose mail is looked through for reports",
    )
    dmarc: bool = Field(default=False, description="send DMARC aggregate reports to others")
    tls: bool = Field(default=False, description="send TLS reports to others")
    sender: str = Field(
        default="",
        description="address of an account that reports are from, in a domain whose DMARC record "
        "has no `rua`",
    )
    organization: str = Field(
        default="", description="whose reports they are; empty: server.hostname"
    )
    max_per_day: int = Field(
        default=100, ge=1, description="reports of each kind that are sent on a day"
    )
    suppress: float = Field(
        default=30 * 86400, ge=0, description="seconds an address that refused one gets no more"
    )
    keep: float = Field(
        default=90 * 86400, ge=3 * 86400, description="seconds that reports and counts are kept"
    )

    @field_validator("addresses", "sender")
    @classmethod
    def _check_addresses(cls, words: str) -> str:
        for word in words.split():
            try:
                parse_address(word)
            except Invalid:
                raise ValueError(f"{word} is no address") from None
        return words

    @model_validator(mode="after")
    def _reports_have_a_sender(self) -> Self:
        if (self.dmarc or self.tls) and len(self.sender.split()) != 1:
            wanted = "reports.dmarc" if self.dmarc else "reports.tls"
            raise ValueError(f"reports.sender should be one address with {wanted}")
        return self


class Imap(Section):
    """Limits of IMAP."""

    max_connections: int = Field(default=20000, ge=1, description="of one listener")
    login_timeout: float = Field(default=60, gt=0, description="seconds without authentication")
    idle_timeout: float = Field(default=1800, ge=1, description="seconds, RFC 9051 §5.4")
    max_append_size: int = Field(default=50 * 1024 * 1024, ge=1024, description="bytes, RFC 7889")
    message_limit: int = Field(
        default=0, ge=0, description="messages that one command touches, RFC 9738; 0: any number"
    )
    save_limit: int = Field(
        default=0, ge=0, description="as message_limit, of COPY and APPEND; 0: message_limit"
    )
    allow_plaintext_login: bool = Field(
        default=False, description="passwords without TLS; for tests only"
    )
    share_with_anyone: bool = Field(
        default=True,
        description="whether users may give rights to anyone; those given stay, RFC 4314 §2",
    )

    @model_validator(mode="after")
    def _save_limit_is_no_smaller(self) -> Self:
        if 0 < self.save_limit < self.message_limit:
            raise ValueError("save_limit cannot be smaller than message_limit")
        return self


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


class Metrics(Section):
    """Prometheus."""

    prefix: str = Field(
        default="mailserver", description="put before every name with an underscore"
    )


class Tracing(Section):
    """Traces by OpenTelemetry."""

    endpoint: str = Field(
        default="", description="URL of a collector that takes OTLP by HTTP; empty: none are made"
    )
    ratio: float = Field(
        default=1.0, ge=0, le=1, description="part of the traces that is made, as 0.1"
    )

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, url: str) -> str:
        if url and urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("should be an http or https URL, as http://collector:4318")
        return url


class Log(Section):
    """Logging to standard error (terminal) or standard output (JSON)."""

    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: text on a terminal"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least important lines that are written"
    )


class Mover(Section):
    """The move of message bodies from PostgreSQL to S3."""

    enabled: bool = Field(default=True, description="false: bodies stay in PostgreSQL")
    interval: float = Field(default=10, gt=0, description="seconds between two looks")
    copy_after: float = Field(
        default=60, ge=0, description="seconds after arrival that a copy is made"
    )
    drop_after: float = Field(
        default=7 * 86400, ge=0, description="seconds a copied body stays hot"
    )
    barrier_age: float = Field(
        default=600,
        ge=0,
        description="seconds after the copy that an external S3 counts as durable",
    )
    grace: float = Field(
        default=35 * 86400, ge=0, description="seconds an unreferenced body is kept"
    )


class Store(Section):
    """How long the store remembers."""

    change_log: float = Field(
        default=60 * 86400,
        ge=86400,
        description="seconds a client may be away and still get changes only",
    )
    submissions: float = Field(
        default=30 * 86400,
        ge=86400,
        description="seconds a submission is shown after it was sent, RFC 8621 §7",
    )


class Config(Section):
    """Everything."""

    server: Server = Server()
    embedded: Embedded = Embedded()
    database: Database = Database()
    s3: S3 = S3()
    listeners: Listeners = Listeners()
    tls: Tls = Tls()
    smtp: Smtp = Smtp()
    antispam: Antispam = Antispam()
    sending: Sending = Sending()
    content: Content = Content()
    dns: Dns = Dns()
    authentication: Authentication = Authentication()
    discovery: Discovery = Discovery()
    outbound: Outbound = Outbound()
    reports: Reports = Reports()
    imap: Imap = Imap()
    oauth: Oauth = Oauth()
    http: Http = Http()
    push: Push = Push()
    metrics: Metrics = Metrics()
    tracing: Tracing = Tracing()
    log: Log = Log()
    mover: Mover = Mover()
    store: Store = Store()
