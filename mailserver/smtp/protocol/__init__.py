"""The grammar of SMTP as values: no I/O, no clock, no state of a connection."""
