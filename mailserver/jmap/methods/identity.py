"""Identity/get (RFC 8621 §6.1): the addresses that the account may send as."""

import hashlib

import orjson

from mailserver.jmap.methods.get import Get
from mailserver.jmap.protocol import properties
from mailserver.jmap.session import Session
from mailserver.mail import accounts, recipients

PROPERTIES = (
    "id", "name", "email", "replyTo", "bcc", "textSignature", "htmlSignature", "mayDelete",
)  # fmt: skip


def identity_text(address: str) -> str:
    """Show the id of an identity: it has no number, an address is all there is of it."""
    return "i" + hashlib.sha256(address.encode()).hexdigest()[:32]


def _identity(name: str, address: str) -> dict[str, object]:
    return {
        "id": identity_text(address),
        "name": name,
        "email": f"*{address}" if address.startswith("@") else address,
        "replyTo": None,
        "bcc": None,
        "textSignature": "",
        "htmlSignature": "",
        "mayDelete": False,
    }


async def get(session: Session, asked: Get) -> dict[str, object]:
    """Return identities; their state is a hash, as addresses are not in the change log."""
    shown = properties.check_properties(asked.properties, PROPERTIES)
    account = await accounts.get(session.mail, session.account)
    addresses = await recipients.send_addresses(session.mail, session.account)
    everything = [_identity(account.name, address) for address in addresses]
    by_id = {str(each["id"]): each for each in everything}
    ids = list(by_id)
    if asked.ids is not None:
        ids = properties.unique_ids(asked.ids, session.limits.max_objects_in_get)
    return {
        "accountId": session.account_id,
        "state": hashlib.sha256(orjson.dumps(everything)).hexdigest()[:16],
        "list": [
            {name: value for name, value in by_id[each].items() if name in shown}
            for each in ids
            if each in by_id
        ],
        "notFound": [each for each in ids if each not in by_id],
    }
