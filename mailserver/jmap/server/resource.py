"""The Session resource (RFC 8620 §2), and the places of everything below it."""

import hashlib
from collections.abc import Mapping

import orjson

from mailserver.config import JMAP_SESSION, Http
from mailserver.jmap.methods import CAPABILITIES, CORE, core_capability
from mailserver.jmap.protocol.ids import account_text
from mailserver.jmap.server.replies import Scope
from mailserver.jmap.session import Limits
from mailserver.model import Principal

WELL_KNOWN = JMAP_SESSION
API = "/jmap/api"
UPLOAD = "/jmap/upload"
DOWNLOAD = "/jmap/download"
EVENTS = "/jmap/events"
MAX_HOST = 255


def base_url(config: Http, scope: Scope, headers: Mapping[bytes, bytes]) -> str:
    """Return scheme and authority for absolute URLs: as configured, else as asked."""
    if config.public_url:
        return config.public_url.rstrip("/")
    host = headers.get(b"host", b"localhost")[:MAX_HOST].decode("ascii", "replace")
    return f"{scope['scheme']}://{host}"


def _unchanging(principal: Principal, limits: Limits) -> dict[str, object]:
    """Return what does not depend on the address that the client used."""
    account = account_text(principal.account_id)
    return {
        "capabilities": {
            urn: core_capability(limits) if urn == CORE else {} for urn in CAPABILITIES
        },
        "accounts": {
            account: {
                "name": principal.login,
                "isPersonal": True,
                "isReadOnly": True,  # over JMAP, as long as no method changes anything
                "accountCapabilities": {urn: say(limits) for urn, say in CAPABILITIES.items()},
            }
        },
        "primaryAccounts": {urn: account for urn in CAPABILITIES},
        "username": principal.login,
    }


def session_state(principal: Principal, limits: Limits) -> str:
    """Return the state of the session object, which every response repeats."""
    encoded = orjson.dumps(_unchanging(principal, limits), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(encoded).hexdigest()[:16]


def session_object(principal: Principal, limits: Limits, base: str) -> dict[str, object]:
    """Return the Session object with absolute URLs."""
    return {
        **_unchanging(principal, limits),
        "apiUrl": base + API,
        "downloadUrl": f"{base}{DOWNLOAD}/{{accountId}}/{{blobId}}/{{name}}?accept={{type}}",
        "uploadUrl": f"{base}{UPLOAD}/{{accountId}}",
        "eventSourceUrl": (
            f"{base}{EVENTS}?types={{types}}&closeafter={{closeafter}}&ping={{ping}}"
        ),
        "state": session_state(principal, limits),
    }
