"""What a client can say wrong."""


class ProtocolError(Exception):
    """The command breaks the grammar; the text is shown to the client after BAD."""


class BadCharset(Exception):
    """SEARCH names a charset that the server does not know (RFC 3501 §6.4.4)."""
