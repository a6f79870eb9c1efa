"""Reports about mail that was sent: delivery status and disposition notifications."""

import re

# Asked of every message that is delivered, so it reads no field but looks for one.
_REPORT = re.compile(rb"^content-type:[ \t\r\n]*multipart/report\b", re.IGNORECASE | re.MULTILINE)


def is_report(header: bytes) -> bool:
    """Tell whether a message is a report (RFC 6522)."""
    return _REPORT.search(header) is not None
