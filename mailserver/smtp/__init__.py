"""SMTP: mail from other servers (RFC 5321) and from the users' programs (RFC 6409)."""
