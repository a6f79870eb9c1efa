"""IMAP: RFC 3501 (IMAP4rev1) with extensions."""
