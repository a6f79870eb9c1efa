"""The Session resource (RFC 8620 §2), and the places of everything below it."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from mailserver.config import JMAP_SESSION, Http
from mailserver.jmap.methods import (
    CAPABILITIES,
    CORE,
    MAIL,
    SHARED_CAPABILITIES,
    VAPID,
    WEB_SOCKET,
    WEB_SOCKET_TICKET,
    core_capability,
)
from mailserver.jmap.protocol.ids import account_text
from mailserver.jmap.server.replies import Scope
from mailserver.jmap.session import Limits
from mailserver.mail.sharing import Share
from mailserver.model import Principal

WELL_KNOWN = JMAP_SESSION
API = "/jmap/api"
UPLOAD = "/jmap/upload"
DOWNLOAD = "/jmap/download"
EVENTS = "/jmap/events"
WEBSOCKET = "/jmap/ws"
TICKET = "/jmap/ws/ticket"
MAX_HOST = 255


def base_url(config: Http, scope: Scope, headers: Mapping[bytes, bytes]) -> str:
    """Return scheme and authority for absolute URLs: as configured, else as asked."""
    if config.public_url:
        return config.public_url.rstrip("/")
    host = headers.get(b"host", b"localhost")[:MAX_HOST].decode("ascii", "replace")
    return f"{scope['scheme']}://{host}"


def _unchanging(principal: Principal, shares: Sequence[Share], limits: Limits) -> dict[str, Any]:
    """Return what does not depend on the address that the client used."""
    own = account_text(principal.account_id)
    accounts = {own: _account(principal.login, CAPABILITIES, limits)}
    for share in shares:
        accounts[account_text(share.account_id)] = _account(
            share.login, SHARED_CAPABILITIES, limits, share
        )
    return {
        "capabilities": {
            urn: core_capability(limits) if urn == CORE else {} for urn in CAPABILITIES
        },
        "accounts": accounts,
        # core is of no account (RFC 8620 §2)
        "primaryAccounts": dict.fromkeys((urn for urn in CAPABILITIES if urn != CORE), own),
        "username": principal.login,
    }


def _with_addresses(base: str, server_key: str) -> dict[str, dict[str, object]]:
    """Return the capabilities that say where something is, and who signs what is pushed."""
    ticket = base + TICKET
    return {
        VAPID: {"applicationServerKey": server_key},
        # RFC 8887 §3: ws for http, wss for https
        WEB_SOCKET: {"url": "ws" + (base + WEBSOCKET).removeprefix("http"), "supportsPush": True},
        WEB_SOCKET_TICKET: {"generationEndpoint": ticket, "revocationEndpoint": ticket},
    }


def _account(
    login: str, capabilities: Collection[str], limits: Limits, share: Share | None = None
) -> dict[str, object]:
    urns = [urn for urn in CAPABILITIES if urn in capabilities and urn != CORE]
    shown = {urn: CAPABILITIES[urn](limits) for urn in urns}
    if share is not None and MAIL in shown:
        shown[MAIL] |= {"mayCreateTopLevelMailbox": False}
    return {
        "name": login,
        "isPersonal": share is None,
        "isReadOnly": share is not None and share.is_read_only,
        "accountCapabilities": shown,
    }


def session_state(principal: Principal, shares: Sequence[Share], limits: Limits) -> str:
    """Return the state of the session object, which every response repeats.

    It moves with every change of the rights on what others share.
    """
    shown = _unchanging(principal, shares, limits), [share.mark for share in shares]
    encoded = orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(encoded).hexdigest()[:16]


def session_object(
    principal: Principal, shares: Sequence[Share], limits: Limits, base: str, server_key: str
) -> dict[str, object]:
    """Return the Session object with absolute URLs; the key is that of web push."""
    shown = _unchanging(principal, shares, limits)
    shown["capabilities"] |= _with_addresses(base, server_key)
    return {
        **shown,
        "apiUrl": base + API,
        "downloadUrl": f"{base}{DOWNLOAD}/{{accountId}}/{{blobId}}/{{name}}?accept={{type}}",
        "uploadUrl": f"{base}{UPLOAD}/{{accountId}}",
        "eventSourceUrl": (
            f"{base}{EVENTS}?types={{types}}&closeafter={{closeafter}}&ping={{ping}}"
        ),
        "state": session_state(principal, shares, limits),
    }
