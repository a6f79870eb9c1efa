"""Reports between mail systems: DMARC aggregate reports and SMTP TLS reports, both ways."""
