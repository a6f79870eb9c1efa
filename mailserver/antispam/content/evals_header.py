"""Tests that are functions: of the header, of the way a message came, of addresses."""

import re
import unicodedata
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

from mailserver.antispam.content.arguments import Eval, between, numbers, organisation
from mailserver.antispam.content.relays import is_public
from mailserver.antispam.content.rulefile import RuleSet
from mailserver.antispam.content.views import Views
from mailserver.mime.forms import read_date

_IP_HOST = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}\Z")


# Header ------------------------------------------------------------------------------------------


def check_for_missing_to_header(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether nobody is named as recipient."""
    return not any(views.raw_values(name) for name in ("to", "cc", "bcc", "apparently-to"))


def subject_is_all_caps(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a subject of some words is in capitals."""
    subject = re.sub(r"^(?:\w{1,3}:\s*)+", "", views.subject)
    letters = [each for each in subject if each.isalpha()]
    return len(letters) >= 10 and " " in subject and all(each.isupper() for each in letters)


def check_for_to_in_subject(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the subject names the recipient, by address or by what stands before the @."""
    _, address = next(iter(views.addresses_of("To")), ("", ""))
    local = address.partition("@")[0]
    subject = views.subject.lower()
    if arguments and arguments[0] == "address":
        return bool(address) and address in subject
    return len(local) > 3 and re.match(rf"{re.escape(local)}[,:]\s", subject) is not None


def check_illegal_chars(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a field has many raw octets above ASCII: a ratio and a number."""
    if len(arguments) < 3:
        return False
    value = (
        b"".join(views.raw_values(arguments[0]))
        if arguments[0] != "ALL"
        else views.all_fields(["raw"])
    )
    ratio, least = numbers(arguments[1:], 2)
    illegal = sum(octet > 126 for octet in value[:8192])
    return bool(value) and illegal > (least or 0) and illegal / len(value) > (ratio or 0)


def check_for_shifted_date(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether Date is off by hours within bounds, compared with when the message arrived."""
    values = views.raw_values("date")
    sent = read_date(values[0]) if values else None
    if sent is None:
        return False
    hours = (sent - views.inquiry.received_at) / timedelta(hours=1)
    least, most = numbers(arguments, 2)
    return between(hours, least, most)


def check_header_count_range(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a field is there a number of times."""
    least, most = numbers(arguments[1:], 2)
    return bool(arguments) and between(len(views.raw_values(arguments[0])), least, most)


def sorted_recipients(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether many recipients are in alphabetical order."""
    named = [address for _, address in views.addresses_of("To") + views.addresses_of("Cc")]
    return len(named) >= 7 and named == sorted(named)


def similar_recipients(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether many recipients begin alike."""
    named = [address for _, address in views.addresses_of("To") + views.addresses_of("Cc")]
    (least,) = numbers(arguments, 1)
    if len(named) < 5:
        return False
    pairs = [one[:2] == two[:2] for one, two in pairwise(named)]
    return sum(pairs) / len(pairs) >= (least or 0.65)


def check_unresolved_template(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the tool that sent it left its variables unfilled."""
    header = views.all_fields(["raw"])
    return (
        re.search(
            rb"(?m)^(?!X-VMS-To|X-UIDL|DomainKey)[\w-]{1,40}:[^\n]{0,200}%[A-Z]{2,20}(?:_[A-Z]{2,20}){0,5}",
            header,
        )
        is not None
    )


def check_msg_parse_flags(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the message breaks the form of messages in a way of that name."""
    name = arguments[0] if arguments else ""
    if name == "missing_head_body_separator":
        return views.header.end == views.header.body_start and views.header.end < len(views.raw)
    if name == "missing_mime_headers":
        return bool(views.raw_values("content-type")) and not views.raw_values("mime-version")
    return False


def mixed_scripts(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether words of the subject or of the author's name mix Latin letters with look-alikes."""
    label, _ = next(iter(views.addresses_of("From")), ("", ""))
    for word in re.findall(r"\w{3,40}", f"{views.subject[:500]} {label[:200]}"):
        if word.isascii():
            continue
        scripts = {unicodedata.name(each, "").split(" ")[0] for each in word if each.isalpha()}
        if "LATIN" in scripts and scripts & {
            "CYRILLIC",
            "GREEK",
            "CHEROKEE",
            "MATHEMATICAL",
            "FULLWIDTH",
        }:
            return True
    return False


def name_is_other_address(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the author's name is an address in another domain than the author's own."""
    label, address = next(iter(views.addresses_of("From")), ("", ""))
    shown = re.search(r"[\w.+-]{1,64}@([\w.-]{3,255})", label)
    if shown is None:
        return False
    other, own = shown[1].lower().strip("."), address.rpartition("@")[2]
    return organisation(other) != organisation(own)


def from_is_recipient(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the author claims to be the recipient."""
    _, author = next(iter(views.addresses_of("From")), ("", ""))
    return any(str(each) == author for each in views.inquiry.recipients)


def from_is_recipient_domain(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the author claims an address in the domain of a recipient."""
    _, author = next(iter(views.addresses_of("From")), ("", ""))
    domain = author.rpartition("@")[2]
    return bool(domain) and any(each.domain == domain for each in views.inquiry.recipients)


# Relays ------------------------------------------------------------------------------------------


def check_no_relays(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether nothing is known of the way it came."""
    return not views.relays


def client_without_name(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the client has no name, though it is of the Internet, where it could have one."""
    client = next(iter(views.relays), None)
    return client is not None and not client.rdns and is_public(client.ip)


def helo_ip_mismatch(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a client called itself by an address in another network than its own."""
    return any(
        _IP_HOST.match(helo := each.helo.strip("[]!")) is not None
        and helo.split(".")[:2] != each.ip.split(".")[:2]
        and not helo.startswith(("10.", "192.168.", "172.", "127."))
        for each in views.relays
    )


def check_for_no_rdns_dotcom_helo(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a client without a name called itself by that of a large provider."""
    return any(
        not each.rdns
        and re.search(r"(?:\.|\A)(?:yahoo|hotmail|lycos|excite|aol|msn)\.com\Z", each.helo)
        for each in views.relays
    )


def _forged(domain: str) -> Eval:
    def forged(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
        """Whether the address of a provider is used by mail that never was there."""
        _, address = next(iter(views.addresses_of("From")), ("", ""))
        if not address.endswith(f"@{domain}") or not views.relays or views.raw_values("list-id"):
            return False
        name = domain.split(".")[0]
        return not any(name in each.rdns or name in each.by for each in views.relays)

    return forged


def check_for_matching_env_and_hdr_from(
    views: Views, arguments: Sequence[str], rules: RuleSet
) -> bool:
    """Whether the sender of the envelope is the author."""
    _, address = next(iter(views.addresses_of("From")), ("", ""))
    return views.inquiry.sender is not None and str(views.inquiry.sender) == address


# Addresses of free mail --------------------------------------------------------------------------


def is_freemail(address: str, rules: RuleSet) -> bool:
    """Tell whether anybody gets an address in that domain."""
    domain = address.rpartition("@")[2]
    if domain in rules.freemail:
        return True
    _, _, parent = domain.partition(".")
    head, _, _ = domain.partition(".")
    return f"*.{parent}" in rules.freemail or f"{head}.*" in rules.freemail


def check_freemail_from(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the author, or the sender of the envelope, writes from free mail."""
    named = [address for name in ("From", "Sender") for _, address in views.addresses_of(name)]
    if views.inquiry.sender is not None:
        named.append(str(views.inquiry.sender))
    return any(is_freemail(each, rules) for each in named)


def check_freemail_header(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a field names an address of free mail."""
    if not arguments:
        return False
    name = arguments[0].split(":")[0]
    sender = [str(views.inquiry.sender)] if views.inquiry.sender is not None else []
    named = sender if name == "EnvelopeFrom" else [each for _, each in views.addresses_of(name)]
    matching = re.compile(re.escape(arguments[1]), re.I) if len(arguments) > 1 else None
    return any(
        is_freemail(each, rules) and (matching is None or matching.search(each)) for each in named
    )


def check_freemail_replyto(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether answers go to another address of free mail than the one it came from."""
    _, author = next(iter(views.addresses_of("From")), ("", ""))
    _, answers = next(iter(views.addresses_of("Reply-To")), ("", ""))
    if not answers or answers == author or not is_freemail(answers, rules):
        return False
    return not (arguments and arguments[0] == "reply") or is_freemail(author, rules)


HEADER_EVALS: dict[str, Eval] = {
    function.__name__: function
    for function in (
        check_for_missing_to_header, subject_is_all_caps, check_for_to_in_subject,
        check_illegal_chars, check_for_shifted_date, check_header_count_range, sorted_recipients,
        similar_recipients, check_unresolved_template, check_msg_parse_flags, mixed_scripts,
        name_is_other_address, from_is_recipient, from_is_recipient_domain, check_no_relays,
        client_without_name, helo_ip_mismatch, check_for_no_rdns_dotcom_helo,
        check_for_matching_env_and_hdr_from, check_freemail_from, check_freemail_header,
        check_freemail_replyto,
    )
} | {
    "check_for_forged_hotmail_received_headers": _forged("hotmail.com"),
    "check_for_forged_yahoo_received_headers": _forged("yahoo.com"),
    "check_for_forged_gmail_received_headers": _forged("gmail.com"),
}  # fmt: skip
