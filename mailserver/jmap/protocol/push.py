"""What push says and is asked for: StateChange (RFC 8620 §7.1), WebSocketPushEnable (RFC 8887)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mailserver.jmap.protocol.errors import Problem, RequestError
from mailserver.jmap.protocol.ids import account_text
from mailserver.mail.watching import TYPES
from mailserver.model import AccountId

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PushEnable:
    """What a client wants to be told of."""

    types: frozenset[str]
    place: str | None  # where it was told last


def known_types(names: object) -> frozenset[str]:
    """Return those of the type names that change here; null is all."""
    if not isinstance(names, list | tuple):
        return frozenset(TYPES)
    return frozenset(names) & frozenset(TYPES)


def parse_push_enable(value: Mapping[str, object]) -> PushEnable:
    """Read a WebSocketPushEnable object (RFC 8887 §4.3.5.2); raise `notRequest`."""
    names, place = value.get("dataTypes"), value.get("pushState")
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        raise RequestError(Problem.NOT_REQUEST, "dataTypes is not an array of strings")
    if place is not None and not isinstance(place, str):
        raise RequestError(Problem.NOT_REQUEST, "pushState is not a string")
    return PushEnable(known_types(names), place)


def state_change(
    changed: Mapping[AccountId, Mapping[str, str]], push_state: str | None = None
) -> Json:
    """Return a StateChange object, over WebSocket with where the client is thereby."""
    shown: Json = {
        "@type": "StateChange",
        "changed": {account_text(account): dict(states) for account, states in changed.items()},
    }
    if push_state is not None:
        shown["pushState"] = push_state
    return shown


def verification(subscription_id: str, code: str) -> Json:
    """Return a PushVerification object (RFC 8620 §7.2.2)."""
    return {
        "@type": "PushVerification",
        "pushSubscriptionId": subscription_id,
        "verificationCode": code,
    }
