"""Reports as messages: RFC 9990 §3.5 for DMARC, RFC 8460 §5.3 for TLS; pure."""

import gzip
from datetime import datetime
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from mailserver.address import Address
from mailserver.feedback import dmarc, tls
from mailserver.feedback.model import DmarcReport, TlsReport

_SUBTYPE = {DmarcReport: "gzip", TlsReport: "tlsrpt+gzip"}


def compose(
    report: DmarcReport | TlsReport,
    *,
    sender: Address,
    to: Address,
    submitter: str,
    now: datetime,
    message_id: str,
) -> bytes:
    """Return a report to one address; `submitter` is the domain of who makes it."""
    letter = EmailMessage(policy=SMTP)
    letter["From"] = HeaderAddress("", sender.local_part, sender.domain)
    letter["To"] = HeaderAddress("", to.local_part, to.domain)
    # folded after 78 octets, which some readers of reports do not undo: all of it is short
    letter["Subject"] = (
        f"Report Domain: {report.domain} Submitter: {submitter} Report-ID: <{report.report_id}>"
    )
    letter["Date"] = format_datetime(now)
    letter["Message-ID"] = f"<{message_id}>"
    letter["Auto-Submitted"] = "auto-generated"
    what = "DMARC aggregate" if isinstance(report, DmarcReport) else "SMTP TLS"
    letter.set_content(
        f"This is a report of {submitter} about {report.domain}: {what}, for programs.\r\n"
    )
    document, ending = _document(report)
    name = f"{submitter}!{report.domain}!{report.begins}!{report.ends}{ending}.gz"
    letter.add_attachment(
        gzip.compress(document, mtime=0),
        "application",
        _SUBTYPE[type(report)],
        filename=name,
    )
    if isinstance(report, TlsReport):
        letter["TLS-Report-Domain"] = report.domain
        letter["TLS-Report-Submitter"] = submitter
        letter.set_type("multipart/report")
        letter.set_param("report-type", "tlsrpt")
    return letter.as_bytes()


def _document(report: DmarcReport | TlsReport) -> tuple[bytes, str]:
    if isinstance(report, DmarcReport):
        return dmarc.write(report), ".xml"
    return tls.write(report), ".json"
