"""The DNS records that a domain needs for mail; `dns_check` compares those that it has."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailserver import tls
from mailserver.address import normal_domain
from mailserver.config import Config
from mailserver.errors import NotFound
from mailserver.mail import discovery, dkim
from mailserver.mime.dkim import record
from mailserver.storage import accounts

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

TTL = 3600  # seconds


@dataclass(frozen=True, slots=True)
class Record:
    """One record to publish."""

    name: str  # without the last dot
    kind: str
    value: str  # as in a zone file, TXT without quotes
    why: str


async def records(mail: "Mail", name: str) -> list[Record]:
    """Return the records of a domain; NotFound when it is not ours."""
    domain = normal_domain(name)
    if not await accounts.domain_exists(mail.database, domain):
        raise NotFound(f"domain {domain}")
    config = mail.config
    return [
        Record(domain, "MX", f"10 {config.server.hostname}.", "mail for the domain comes here"),
        Record(domain, "TXT", "v=spf1 mx -all", "only its mail servers send for it, RFC 7208"),
        *await _keys(mail, domain),
        *_policies(config, domain),
        *_certificate(config),
        *_services(config, domain),
    ]


async def _keys(mail: "Mail", domain: str) -> list[Record]:
    now = mail.now()
    return [
        Record(
            f"{key.selector}._domainkey.{domain}",
            "TXT",
            record(key.algorithm, key.public),
            f"the key of signatures, {key.algorithm}, RFC 6376",
        )
        for key in await dkim.keys(mail, domain)
        if key.signs_until is None or key.signs_until + dkim.KEPT_IN_DNS > now
    ]


def _policies(config: Config, domain: str) -> list[Record]:
    """Return what other servers are told to do with mail from the domain and for it."""
    report = f"mailto:{_report_address(config, domain)}"
    found = [
        Record(
            f"_dmarc.{domain}",
            "TXT",
            f"v=DMARC1; p=none; rua={report}",
            "what others do with forged mail: later p=quarantine or p=reject, RFC 9989",
        ),
        Record(
            f"_smtp._tls.{domain}",
            "TXT",
            f"v=TLSRPTv1; rua={report}",
            "where others report failures of TLS, RFC 8460",
        ),
    ]
    policy = discovery.policy(config)
    if policy is not None:
        found += [
            Record(
                f"_mta-sts.{domain}",
                "TXT",
                f"v=STSv1; id={discovery.policy_id(policy)};",
                "others send by TLS with a valid certificate: the id of the policy, RFC 8461",
            ),
            Record(
                f"mta-sts.{domain}",
                "CNAME",
                f"{discovery.host(config)}.",
                "where the policy is, by HTTPS; the certificate needs this name too, RFC 8461",
            ),
        ]
    return found


def _report_address(config: Config, domain: str) -> str:
    """Return where reports go: to an address that is looked through, if one is in the domain.

    For one in another domain, that would have to agree (RFC 7489 §7.1).
    """
    addresses = config.reports.addresses.split()
    inside = [each for each in addresses if each.rpartition("@")[2].lower() == domain]
    return inside[0] if inside else f"postmaster@{domain}"


def _certificate(config: Config) -> list[Record]:
    """Return the TLSA record of the key that the server has now; none without a certificate."""
    file = config.tls.certificate
    digest = None if file is None else tls.key_digest(file)
    if digest is None:
        return []
    why = "the key of the server, for DANE, in signed zones only: before another key, RFC 7672"
    return [Record(f"_25._tcp.{config.server.hostname}", "TLSA", f"3 1 1 {digest}", why)]


def _services(config: Config, domain: str) -> list[Record]:
    """Return how mail programs find the server."""
    host, told = discovery.host(config), config.discovery
    services = (
        ("_submissions", told.submissions, "programs find where to send, RFC 8314"),
        ("_submission", told.submission, "programs find where to send, RFC 6186"),
        ("_imaps", told.imaps, "programs find their mail, RFC 6186"),
        ("_imap", told.imap, "programs find their mail, RFC 6186"),
        ("_jmap", told.jmap, "programs find their mail, RFC 8620"),
        ("_autodiscover", told.jmap, "Outlook finds its settings"),
    )
    found = [
        Record(f"{service}._tcp.{domain}", "SRV", f"0 1 {port} {host}.", why)
        for service, port, why in services
        if port
    ]
    why = "Thunderbird and others find their settings, by HTTP"
    return [*found, Record(f"autoconfig.{domain}", "CNAME", f"{host}.", why)]
