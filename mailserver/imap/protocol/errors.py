"""What a client can say wrong."""


class ProtocolError(Exception):
    """The command breaks the grammar; text and response code are shown to the client after BAD."""

    def __init__(self, text: str, code: bytes | None = None) -> None:
        super().__init__(text)
        self.code = code


class Garbled(Exception):
    """What the client sent is no compressed data; nothing after it can be read."""


class BadName(ProtocolError):
    """The grammar is kept, but no mailbox has such a name; the text is shown after NO [CANNOT]."""


class BadCharset(Exception):
    """SEARCH names a charset that the server does not know (RFC 3501 §6.4.4)."""

    def __init__(self, *, saves: bool = False) -> None:
        super().__init__("unknown charset")
        self.saves = saves  # the result was to be saved: nothing is, now (RFC 5182 §2.1)
