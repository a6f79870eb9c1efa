"""The language of IMAP as values: pure code, no I/O."""
