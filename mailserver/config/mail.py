"""How mail is taken, sent, read and kept."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from mailserver.address import parse_address
from mailserver.config.values import Section, networks
from mailserver.errors import Invalid


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
    lease: float = Field(
        default=90,
        ge=5,
        description="seconds without a sign of life after which others send what a worker had",
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
    max_connections_per_ip: int = Field(
        default=2000, ge=1, description="of all listeners, from one IPv4 address or IPv6 /64"
    )
    max_connections_per_account: int = Field(
        default=500, ge=1, description="that are logged in to one account"
    )
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
