"""Messages to the push services of devices (RFC 8620 §7.2)."""
