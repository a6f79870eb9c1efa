"""Who gets an automatic reply, and what it looks like (RFC 3834, RFC 5230); pure."""

import re
from collections.abc import Collection
from datetime import datetime
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime

from mailserver.address import Address, parse_address
from mailserver.errors import Invalid
from mailserver.mime import HeaderBlock, as_addresses, as_message_ids, as_text
from mailserver.mime.text import collapse, html_text
from mailserver.model import Vacation

MAX_SUBJECT = 200  # characters taken from the subject that is answered
MAX_REFERENCES = 20

# Local parts that no person reads (RFC 3834 §2, RFC 5230 §4.6), and those of today.
_ROBOT = re.compile(
    r"(owner-.*|.*-owner|.*-request|mailer-daemon|listserv|majordomo|.*-bounces?([+=-].*)?"
    r"|bounces?([+=-].*)?|(do[-_.]?)?not?[-_.]?reply([+=-].*)?|.*[-_.]no[-_.]?reply)",
    re.IGNORECASE,
)
_LINE_END = re.compile(
    r"<br\s*/?>|</(?:p|div|li|tr|h[1-6]|ul|ol|table|blockquote|pre)\s*>", re.IGNORECASE
)
_MARK = "\u2028"  # a line end that HTML does not collapse
_RECIPIENTS = ("to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc")
_BULK = frozenset({"bulk", "junk", "list", "auto_reply"})
_SUPPRESSED = frozenset({"all", "oof", "autoreply"})

DEFAULT_SUBJECT = "Automatic reply"
DEFAULT_BODY = (
    "This is an automatic reply. I am away at the moment and will read your message when I am back."
)


def is_due(vacation: Vacation, received_at: datetime) -> bool:
    """Tell whether mail that arrived then is answered (RFC 8621 §8)."""
    return (
        vacation.enabled
        and (vacation.from_date is None or vacation.from_date <= received_at)
        and (vacation.to_date is None or received_at < vacation.to_date)
    )


def sender_of(path: str, own: Collection[str], separator: str) -> Address | None:
    """Return who a reply goes to; None for nobody: a robot, or one's own address."""
    try:
        sender = parse_address(path)
    except Invalid:
        return None
    if _ROBOT.fullmatch(sender.local_part):
        return None
    if {str(sender), str(sender.without_subaddress(separator))} & set(own):
        return None
    return sender


def is_personal(header: HeaderBlock) -> bool:
    """Tell whether a message is no list's, no robot's and no reply like this one."""
    if any(field.name.lower().startswith("list-") for field in header):
        return False
    submitted = _word(header, "auto-submitted")
    if submitted not in ("", "no") or _word(header, "precedence") in _BULK:
        return False
    suppressed = header.last("x-auto-response-suppress") or b""
    return not _SUPPRESSED & {each.strip() for each in as_text(suppressed).lower().split(",")}


def _word(header: HeaderBlock, name: str) -> str:
    """Return the first word of a field, without parameters and comments."""
    value = header.last(name)
    return "" if value is None else re.split(r"[;\s(]", as_text(value).strip().lower())[0]


def addressed(header: HeaderBlock, own: Collection[str], separator: str) -> Address | None:
    """Return the address of the account that a message names as a recipient (RFC 5230 §4.5)."""
    for name in _RECIPIENTS:
        for value in header.all(name):
            for each in as_addresses(value):
                try:
                    address = parse_address(each["email"])
                except Invalid:
                    continue
                forms = (address, address.without_subaddress(separator), f"@{address.domain}")
                if any(str(form) in own for form in forms):
                    return address
    return None


def needs_utf8(own: Address, sender: Address) -> bool:
    """Tell whether a reply has addresses that only SMTPUTF8 can carry (RFC 6531 §3.4)."""
    return not (own.local_part.isascii() and sender.local_part.isascii())


def compose(
    vacation: Vacation,
    header: HeaderBlock,
    *,
    name: str,
    own: Address,
    sender: Address,
    now: datetime,
    message_id: str,
) -> bytes:
    """Return the reply to a message (RFC 3834 §3)."""
    reply = EmailMessage(policy=SMTPUTF8 if needs_utf8(own, sender) else SMTP)
    reply["From"] = _field(name, own)
    reply["To"] = _field("", sender)
    reply["Subject"] = _subject(vacation, header)
    reply["Date"] = format_datetime(now)
    reply["Message-ID"] = f"<{message_id}>"
    answered = _ids(header, "message-id")[:1]
    if answered:
        reply["In-Reply-To"] = f"<{answered[0]}>"
        before = _ids(header, "references") or _ids(header, "in-reply-to")[:1]
        chain = dict.fromkeys([*before[-MAX_REFERENCES:], *answered])
        reply["References"] = " ".join(f"<{each}>" for each in chain)
    reply["Auto-Submitted"] = "auto-replied"
    reply["X-Auto-Response-Suppress"] = "All"
    text = vacation.text_body
    if text is None:
        text = DEFAULT_BODY if vacation.html_body is None else _plain(vacation.html_body)
    reply.set_content(_clean(text), charset="utf-8", cte="quoted-printable")
    if vacation.html_body is not None:
        html = _clean(vacation.html_body)
        reply.add_alternative(html, subtype="html", charset="utf-8", cte="quoted-printable")
    return reply.as_bytes()


def _field(name: str, address: Address) -> HeaderAddress:
    """Return a mailbox for a header field; the domain is in A-labels already."""
    # in two parts: an `addr_spec` is parsed, and refused when its local part is not ASCII
    return HeaderAddress(_one_line(name), address.local_part, address.domain)


def _subject(vacation: Vacation, header: HeaderBlock) -> str:
    if vacation.subject is not None:
        return _one_line(vacation.subject)
    value = header.last("subject")
    answered = _one_line(as_text(value))[:MAX_SUBJECT] if value is not None else ""
    return f"Auto: {answered}" if answered else DEFAULT_SUBJECT


def _ids(header: HeaderBlock, name: str) -> list[str]:
    value = header.last(name)
    found = as_message_ids(value) if value is not None else None
    return [each for each in found or () if each.isascii() and each.isprintable()]


def _one_line(text: str) -> str:
    """Return a text as one line without control characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _plain(markup: str) -> str:
    """Return the text of HTML, a line for each line or block of it."""
    text = html_text(_LINE_END.sub(_MARK, markup.replace(_MARK, " ")))
    return "\n".join(filter(None, map(collapse, text.split(_MARK))))


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "")
