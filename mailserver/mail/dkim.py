"""The keys of domains, and signatures on what leaves (RFC 6376, RFC 8463)."""

import asyncio
import base64
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mailserver.address import normal_domain
from mailserver.errors import AlreadyExists, Invalid, MailError, NotFound
from mailserver.mime import addresses
from mailserver.mime import dkim as canonical
from mailserver.mime.headers import HeaderBlock
from mailserver.sealing import Seal
from mailserver.storage import accounts
from mailserver.storage import dkim as table
from mailserver.storage.dkim import KeyRow as KeyRow

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

log = logging.getLogger(__name__)

ALGORITHMS = ("rsa-sha256", "ed25519-sha256")
BITS = 2048  # of RSA: every verifier takes it (RFC 8301 §3.2)
KEPT = timedelta(seconds=60)  # that the keys of a domain are remembered
DOMAINS = 1000  # that are remembered
LARGE = 256 * 1024  # octets of a message that is signed in a thread
KEPT_IN_DNS = timedelta(days=7)  # after its last signature: mail may be on its way for days
OVERLAP = timedelta(days=2)  # until a new key signs: by then DNS has it everywhere


@dataclass(frozen=True, slots=True)
class Signer:
    """One key, ready to sign."""

    row: KeyRow
    key: Any  # of `cryptography`, which is loaded when there is something to sign

    def sign(self, octets: bytes) -> bytes:
        """Return the signature."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        signature: bytes
        if self.row.algorithm == "ed25519-sha256":
            signature = self.key.sign(hashlib.sha256(octets).digest())  # RFC 8463 §3
        else:
            signature = self.key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
        return signature


class Signatures:
    """Signs messages with the keys of their authors' domains."""

    def __init__(self, mail: "Mail") -> None:
        self._mail = mail
        self._seal = Seal(mail.config.server.secret_key)
        self._known: dict[str, tuple[datetime, list[Signer]]] = {}

    async def sign(self, content: bytes) -> bytes:
        """Return the message with a signature of each key in use; as it is when there is none."""
        domain = author_domain(content)
        if domain is None:
            return content
        now = self._mail.now()
        signers = await self._in_use(domain)
        if not signers:
            return content
        if len(content) > LARGE:
            return await asyncio.to_thread(_signed, content, signers, now)
        return _signed(content, signers, now)

    async def signer(self, domain: str, algorithm: str) -> Signer | None:
        """Return a key of a domain that is in use; None when it has none."""
        return next(
            (each for each in await self._in_use(domain) if each.row.algorithm == algorithm), None
        )

    async def _in_use(self, domain: str) -> list[Signer]:
        now = self._mail.now()
        return [
            signer
            for signer in await self._signers(domain, now)
            if signer.row.signs_from <= now
            and (signer.row.signs_until is None or now < signer.row.signs_until)
        ]

    async def _signers(self, domain: str, now: datetime) -> list[Signer]:
        known = self._known.get(domain)
        if known is not None and known[0] > now:
            return known[1]
        rows = await table.of_domain(self._mail.database, domain)
        signers: list[Signer] = []
        for row in rows:
            try:
                signers.append(Signer(row, _load(self._seal.open(row.private, _purpose(row)))))
            except MailError as error:
                log.error(
                    "DKIM key does not open",
                    extra={"domain": domain, "selector": row.selector, "error": str(error)},
                )
        if len(self._known) >= DOMAINS:
            self._known.clear()
        self._known[domain] = (now + KEPT, signers)
        return signers


def author_domain(content: bytes) -> str | None:
    """Return the domain of the author; None unless it is exactly one (RFC 7489 §6.6.1)."""
    block = HeaderBlock(content)
    values = [field.value for field in block if field.name.lower() == "from"]
    if len(values) != 1:
        return None
    domains = set()
    for mailbox in addresses.parse(values[0]):
        if mailbox.domain is None:
            return None
        try:
            domains.add(normal_domain(mailbox.domain.decode()))
        except (Invalid, UnicodeDecodeError):
            return None
    return domains.pop() if len(domains) == 1 else None


def _signed(content: bytes, signers: Sequence[Signer], now: datetime) -> bytes:
    draft = canonical.draft(content)
    fields = []
    for signer in signers:
        row = signer.row
        value = canonical.to_sign(
            draft, row.domain, row.selector, row.algorithm, int(now.timestamp())
        )
        signature = signer.sign(canonical.signed_octets(draft, value))
        fields.append(canonical.field(value, signature))
    return b"".join((*fields, content))


async def make(
    mail: "Mail", domain: str, algorithm: str, selector: str, signs_from: datetime
) -> KeyRow:
    """Make a key that signs from a time on; AlreadyExists when the selector is taken."""
    domain = normal_domain(domain)
    if algorithm not in ALGORITHMS:
        raise Invalid(f"no algorithm {algorithm}: it is one of {', '.join(ALGORITHMS)}")
    if not await accounts.domain_exists(mail.database, domain):
        raise NotFound(f"domain {domain}")
    if any(row.selector == selector for row in await table.of_domain(mail.database, domain)):
        raise AlreadyExists(f"selector {selector} of {domain}")
    private, public = await asyncio.to_thread(_generate, algorithm)
    row = KeyRow(domain, selector, algorithm, b"", public, mail.now(), signs_from, None)
    sealed = Seal(mail.config.server.secret_key).seal(private, _purpose(row))
    row = row._replace(private=sealed)
    await table.insert(mail.database, row)
    return row


async def make_all(mail: "Mail", domain: str) -> list[KeyRow]:
    """Make the first keys of a domain, one of each algorithm, in use at once."""
    now = mail.now()
    return [
        await make(mail, domain, algorithm, _selector(algorithm, now), now)
        for algorithm in ALGORITHMS
    ]


async def rotate(mail: "Mail", domain: str, after: timedelta = OVERLAP) -> list[KeyRow]:
    """Make new keys that take over from those in use after some time; return the new ones.

    The old ones stay in DNS until what they signed has arrived.
    """
    domain = normal_domain(domain)
    now = mail.now()
    old = await table.of_domain(mail.database, domain)
    taken = {row.selector for row in old}
    new = []
    for algorithm in ALGORITHMS:
        selector = name = _selector(algorithm, now)
        number = 2
        while selector in taken:
            selector, number = f"{name}-{number}", number + 1
        new.append(await make(mail, domain, algorithm, selector, now + after))
    await table.end(mail.database, domain, sorted(taken), now + after)
    return new


async def keys(mail: "Mail", domain: str) -> list[KeyRow]:
    """Return the keys of a domain, oldest first."""
    return await table.of_domain(mail.database, normal_domain(domain))


async def remove(mail: "Mail", domain: str, selector: str) -> None:
    """Remove a key; its record may go from DNS when what it signed has arrived."""
    if not await table.remove(mail.database, normal_domain(domain), selector):
        raise NotFound(f"key {selector} of {domain}")


def _selector(algorithm: str, now: datetime) -> str:
    return f"{'e' if algorithm == 'ed25519-sha256' else 'r'}{now:%Y%m%d}"


def _purpose(row: KeyRow) -> str:
    return f"dkim {row.domain} {row.selector}"


def _load(private: bytes) -> Any:
    from cryptography.hazmat.primitives import serialization

    return serialization.load_der_private_key(private, password=None)


def _generate(algorithm: str) -> tuple[bytes, str]:
    """Return a new private key in PKCS #8, and its public key as it is in DNS."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    key: Any
    if algorithm == "ed25519-sha256":
        key = ed25519.Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes_raw()
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    private = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, base64.b64encode(public).decode()
