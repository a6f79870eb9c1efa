"""A mail server: SMTP, submission, IMAP and JMAP on PostgreSQL and S3."""

__version__ = "0.1.0"
