"""Quotas on the wire."""

import pytest

from mailserver.imap.protocol import quota
from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.quota import GetQuota, GetQuotaRoot


def test_commands_are_read() -> None:
    assert quota.parse_getquota(Cursor((b' ""',))) == GetQuota(b"")
    assert quota.parse_getquota(Cursor((b" #user/alice",))) == GetQuota(b"#user/alice")
    assert quota.parse_getquotaroot(Cursor((b" &U,BTFw-",))) == GetQuotaRoot("台北")
    for text in (b"", b" ", b" a b", b' "a'):
        with pytest.raises(ProtocolError):
            quota.parse_getquota(Cursor((text,)))
        with pytest.raises(ProtocolError):
            quota.parse_getquotaroot(Cursor((text,)))


@pytest.mark.parametrize(
    ("used", "limit", "shown"),
    [(0, 0, b"0 0"), (1, 1023, b"1 0"), (1024, 1024, b"1 1"), (1025, 2**50, b"2 1099511627776")],
)
def test_octets_become_units(used: int, limit: int, shown: bytes) -> None:
    assert quota.quota(b"", used, limit) == b'* QUOTA "" (STORAGE %b)\r\n' % shown


def test_roots() -> None:
    assert quota.quota_root(b'"a b"', b"", b'x"') == b'* QUOTAROOT "a b" "" "x\\""\r\n'
    assert quota.quota_root(b"INBOX") == b"* QUOTAROOT INBOX\r\n"
