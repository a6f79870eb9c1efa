"""The operations on mail, the same for IMAP, JMAP and delivery: one change, one transaction."""
