"""One email on its way into a response: what of it was read."""

from mailserver.jmap.protocol.ids import part_text
from mailserver.mail.search import Place, Stored
from mailserver.mime import Env, HeaderBlock, PartRow
from mailserver.model import BlobId

NOTHING = Stored(BlobId(b""), b"")


class View:
    """What the properties of an Email are made of; the parts that were not asked for are empty."""

    __slots__ = ("_block", "blob_id", "convenience", "env", "header", "id", "place")

    def __init__(self, email_id: int, place: Place, stored: Stored, header: bytes) -> None:
        self.id = email_id
        self.place = place
        self.blob_id, self.env = stored
        self.header = header
        # the ready JSON of the convenience properties
        self.convenience = Env.unpack(self.env).properties if self.env else {}
        self._block: HeaderBlock | None = None

    def part_blob(self, part: PartRow) -> str:
        """Return the id of the blob that a body part is."""
        return part_text(self.blob_id, part.encoding, part.body_start, part.body_end)

    @property
    def size(self) -> int:
        """Octets of the message."""
        return self.place.size

    @property
    def block(self) -> HeaderBlock:
        """The stored header."""
        if self._block is None:
            self._block = HeaderBlock(self.header)
        return self._block
