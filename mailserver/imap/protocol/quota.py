"""GETQUOTA and GETQUOTAROOT (RFC 9208)."""

from dataclasses import dataclass

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.responses import string

UNIT = 1024  # octets, RFC 9208 §5.1


@dataclass(frozen=True, slots=True)
class GetQuota:
    """GETQUOTA: the quota root asked about."""

    root: bytes


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    """GETQUOTAROOT: the mailbox whose quota roots are asked for; it need not exist."""

    mailbox: str


def parse_getquota(args: Cursor) -> GetQuota:
    """Read getquota = "GETQUOTA" SP quota-root-name."""
    args.space()
    root = args.astring()
    args.end()
    return GetQuota(root)


def parse_getquotaroot(args: Cursor) -> GetQuotaRoot:
    """Read getquotaroot = "GETQUOTAROOT" SP mailbox."""
    args.space()
    mailbox = args.mailbox()
    args.end()
    return GetQuotaRoot(mailbox)


def quota(root: bytes, used: int, limit: int) -> bytes:
    """Write a QUOTA response from octets; a unit that is begun is used, one not whole no room."""
    return b"* QUOTA %b (STORAGE %d %d)\r\n" % (string(root), -(-used // UNIT), limit // UNIT)


def quota_root(name: bytes, *roots: bytes) -> bytes:
    """Write a QUOTAROOT response."""
    return b"* QUOTAROOT %b\r\n" % b" ".join([name, *map(string, roots)])
