"""What mail programs and other servers are told about the mail of a domain: documents for HTTP.

The forms are those of Thunderbird (autoconfig), Outlook (autodiscover), Apple (a profile) and
RFC 8461 (the policy of MTA-STS). None says whether an address exists, only whether its domain is
one of this server.
"""

import hashlib
import plistlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, tostring
from xml.parsers import expat

from mailserver.address import Address, normal_domain
from mailserver.config import Config
from mailserver.errors import Invalid, NotFound
from mailserver.storage import accounts

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

MAX_REQUEST = 16 * 1024  # octets of a request of Outlook
MAX_TEXT = 1024  # characters of what it names
OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover"
RESPONSE = f"{OUTLOOK}/responseschema/2006"
OUTLOOK_RESPONSE = f"{OUTLOOK}/outlook/responseschema/2006a"
NO_ADDRESS, BAD_REQUEST, NO_SCHEMA = 500, 600, 601  # error codes of autodiscover


@dataclass(frozen=True, slots=True)
class Door:
    """Where mail programs connect."""

    protocol: str  # "imap" or "smtp"
    port: int
    starttls: bool  # else TLS from the first octet (RFC 8314 §3)


def doors(config: Config) -> list[Door]:
    """Return where mail programs connect, the best way of each protocol first."""
    told = config.discovery
    every = (
        Door("imap", told.imaps, starttls=False),
        Door("imap", told.imap, starttls=True),
        Door("smtp", told.submissions, starttls=False),
        Door("smtp", told.submission, starttls=True),
    )
    return [door for door in every if door.port]


def host(config: Config) -> str:
    """Return the name that mail programs connect to."""
    return config.discovery.host or config.server.hostname


async def our_domain(mail: "Mail", name: str) -> str:
    """Return a domain of this server in its normal form; NotFound when it is none."""
    try:
        domain = normal_domain(name)
    except Invalid:
        raise NotFound("domain") from None
    if not await accounts.domain_exists(mail.database, domain):
        raise NotFound("domain")
    return domain


def policy(config: Config) -> str | None:
    """Return the policy of MTA-STS, one for all domains (RFC 8461 §3.2); None: there is none."""
    told = config.discovery
    if told.mta_sts == "none":
        return None
    hosts = told.mta_sts_hosts.split() or [config.server.hostname]
    lines = ["version: STSv1", f"mode: {told.mta_sts}"]
    lines += [f"mx: {name}" for name in hosts]
    lines.append(f"max_age: {told.mta_sts_max_age}")
    return "".join(f"{line}\r\n" for line in lines)


def policy_id(text: str) -> str:
    """Return the id of a policy, which is another one as soon as the policy is (RFC 8461 §3.1)."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def autoconfig(config: Config, domain: str) -> bytes:
    """Return what Thunderbird and others read (draft-ietf-mailmaint-autoconfig)."""
    root = Element("clientConfig", version="1.1")
    provider = SubElement(root, "emailProvider", id=domain)
    _texts(provider, domain=domain, displayName=domain, displayShortName=domain)
    for door in doors(config):
        name = "incomingServer" if door.protocol == "imap" else "outgoingServer"
        server = SubElement(provider, name, type=door.protocol)
        _texts(
            server,
            hostname=host(config),
            port=str(door.port),
            socketType="STARTTLS" if door.starttls else "SSL",
            authentication="password-cleartext",  # over TLS
            username="%EMAILADDRESS%",
        )
    return _document(root)


def autodiscover(config: Config, address: Address) -> bytes:
    """Return what Outlook reads (MS-OXDSCLI §2.2.4.1)."""
    root, response = _outlook()
    account = SubElement(response, "Account")
    _texts(account, AccountType="email", Action="settings")
    for protocol in ("imap", "smtp"):
        door = next((each for each in doors(config) if each.protocol == protocol), None)
        if door is None:
            continue
        found = SubElement(account, "Protocol")
        _texts(
            found,
            Type=protocol.upper(),
            Server=host(config),
            Port=str(door.port),
            DomainRequired="off",
            LoginName=str(address),
            SPA="off",
            SSL="off" if door.starttls else "on",
            Encryption="TLS" if door.starttls else "SSL",
            AuthRequired="on",
        )
        if protocol == "smtp":
            _texts(found, UsePOPAuth="off", SMTPLast="off")
    return _document(root)


def autodiscover_error(code: int, text: str) -> bytes:
    """Return what Outlook reads when it cannot be helped (MS-OXDSCLI §2.2.4.1.1.3)."""
    root = Element("Autodiscover", xmlns=RESPONSE)
    error = SubElement(SubElement(root, "Response"), "Error")
    _texts(error, ErrorCode=str(code), Message=text, DebugData="")
    return _document(root)


def read_autodiscover(body: bytes) -> str:
    """Return the address that Outlook asks about; Invalid when the request has none."""
    if len(body) > MAX_REQUEST:
        raise Invalid("the request is too long")
    parser = expat.ParserCreate(namespace_separator=" ")
    path: list[str] = []
    found: dict[str, str] = {}

    def refuse(*_: object) -> None:  # nothing of what such requests are has a use for entities
        raise Invalid("the request has a document type")

    def begin(name: str, _: object) -> None:
        path.append(name.rpartition(" ")[2])

    def end(_: str) -> None:
        path.pop()

    def text(data: str) -> None:
        found[path[-1]] = (found.get(path[-1], "") + data)[:MAX_TEXT]

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError):  # also of unknown character sets
        raise Invalid("the request is no XML") from None
    address = found.get("EMailAddress", "").strip()
    if not address:
        raise Invalid("the request has no address")
    return address


def profile(config: Config, address: Address) -> bytes:
    """Return a configuration profile of Apple (Configuration Profile Reference: Email)."""
    where = {door.protocol: door for door in reversed(doors(config))}  # the best one wins
    incoming, outgoing = where.get("imap"), where.get("smtp")
    if incoming is None or outgoing is None:
        raise NotFound("profile")
    name = host(config)
    account = {
        "PayloadType": "com.apple.mail.managed",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{name}.mail.{address}",
        "PayloadUUID": _uuid(f"mail:{name}:{address}"),
        "PayloadDisplayName": str(address),
        "EmailAccountType": "EmailTypeIMAP",
        "EmailAccountDescription": str(address),
        "EmailAddress": str(address),
        "IncomingMailServerAuthentication": "EmailAuthPassword",
        "IncomingMailServerHostName": name,
        "IncomingMailServerPortNumber": incoming.port,
        "IncomingMailServerUseSSL": True,
        "IncomingMailServerUsername": str(address),
        "OutgoingMailServerAuthentication": "EmailAuthPassword",
        "OutgoingMailServerHostName": name,
        "OutgoingMailServerPortNumber": outgoing.port,
        "OutgoingMailServerUseSSL": True,
        "OutgoingMailServerUsername": str(address),
        "OutgoingPasswordSameAsIncomingPassword": True,
    }
    return plistlib.dumps(
        {
            "PayloadType": "Configuration",
            "PayloadVersion": 1,
            "PayloadIdentifier": f"{name}.{address}",
            "PayloadUUID": _uuid(f"profile:{name}:{address}"),
            "PayloadDisplayName": f"Mail of {address.domain}",
            "PayloadDescription": f"Sets up {address} with {name}",
            "PayloadContent": [account],
        }
    )


def _uuid(text: str) -> str:
    """Return an identifier that stays the same, so that a profile replaces the one before it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text)).upper()


def _outlook() -> tuple[Element, Element]:
    root = Element("Autodiscover", xmlns=RESPONSE)
    return root, SubElement(root, "Response", xmlns=OUTLOOK_RESPONSE)


def _texts(parent: Element, **texts: str) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = text


def _document(root: Element) -> bytes:
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return written
