"""What the connections of a listener have in common."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailserver.antispam.gate import Gate
from mailserver.auth.credentials import Authenticator
from mailserver.mail.context import Mail
from mailserver.networks import Networks
from mailserver.smtp.limits import Limits
from mailserver.smtp.outcomes import Outcomes
from mailserver.smtp.session import Policy

if TYPE_CHECKING:
    from mailserver.smtp.connection import Connection


@dataclass(frozen=True, slots=True)
class Kind:
    """What a listener is for."""

    policy: Callable[[Gate], Policy]
    implicit_tls: bool = False
    pauses: bool = False  # strangers wait for the greeting


class Shared:
    """What the connections of a listener share."""

    def __init__(
        self,
        *,
        mail: Mail,
        authenticator: Authenticator,
        tls: ssl.SSLContext | None,
        kind: Kind,
        name: str,
        limits: Limits,
        gate: Gate,
    ) -> None:
        self.mail = mail
        self.authenticator = authenticator
        self.tls = tls
        self.kind = kind
        self.policy = kind.policy(gate)
        self.gate = gate
        self.name = name
        self.limits = limits
        self.relays = Networks(mail.config.smtp.xclient_networks)
        self.outcomes = Outcomes(mail.metrics)
        self.open: set[Connection] = set()
        self.stopping = False
