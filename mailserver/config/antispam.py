"""What is done about mail that nobody wants."""

import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mailserver.config.values import Secret, Section, networks

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
    dmarc_patience: float = Field(
        default=6 * 3600,
        ge=0,
        description="seconds mail waits for a DMARC policy that DNS does not tell; 0: it does not",
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
