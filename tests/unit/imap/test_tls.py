"""TLS over memory: whatever way the octets are cut, they mean the same."""

import contextlib
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.imap.tls import RECORD, Tls
from mailserver.tls import make_development_ca, server_context


@dataclass(frozen=True)
class Contexts:
    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    files = make_development_ca(tmp_path_factory.mktemp("tls"), ["localhost"], datetime.now(UTC))
    return Contexts(
        server_context(files.certificate, files.key),
        ssl.create_default_context(cafile=str(files.ca)),
    )


@dataclass
class Peer:
    """The client's side, by OpenSSL itself, and a server that hears it in pieces."""

    contexts: Contexts
    piece: int = 1 << 20  # octets that the server gets at once
    heard: bytes = b""
    incoming: ssl.MemoryBIO = field(default_factory=ssl.MemoryBIO)
    outgoing: ssl.MemoryBIO = field(default_factory=ssl.MemoryBIO)

    def __post_init__(self) -> None:
        self.server = Tls(self.contexts.server)
        self.buffer = memoryview(bytearray(RECORD))
        self.client = self.contexts.client.wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost"
        )

    def pass_on(self) -> None:
        """Bring what the client has said to the server, and the answer back."""
        said = self.outgoing.read()
        for start in range(0, len(said), self.piece):
            octets = memoryview(said[start : start + self.piece])
            for plain in self.server.receive(octets, self.buffer):
                self.heard += bytes(plain)
            self.incoming.write(self.server.pending())

    def shake_hands(self) -> None:
        while True:
            try:
                self.client.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.pass_on()
        self.pass_on()

    def read(self) -> bytes:
        found = b""
        try:
            while data := self.client.read(1 << 20):
                found += data
        except ssl.SSLWantReadError:
            pass
        return found


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4000),
    st.lists(st.binary(min_size=1, max_size=100) | st.just(b"x" * 50_000), min_size=1, max_size=4),
)
def test_cuts_mean_nothing(contexts: Contexts, piece: int, texts: list[bytes]) -> None:
    peer = Peer(contexts, piece)
    peer.shake_hands()
    assert peer.server.established
    for text in texts:
        peer.client.write(text)
        peer.pass_on()
        for octets in peer.server.send(text):
            peer.incoming.write(octets)
        assert peer.read() == text
    assert peer.heard == b"".join(texts)
    assert not peer.server.ended


def test_what_comes_with_the_end_of_the_handshake_is_heard(contexts: Contexts) -> None:
    peer = Peer(contexts)
    with pytest.raises(ssl.SSLWantReadError):
        peer.client.do_handshake()
    peer.pass_on()
    peer.client.do_handshake()
    peer.client.write(b"a LOGIN\r\n")
    peer.pass_on()
    assert peer.server.established
    assert peer.heard == b"a LOGIN\r\n"


def test_nothing_is_sent_for_nothing(contexts: Contexts) -> None:
    peer = Peer(contexts)
    peer.shake_hands()
    assert list(peer.server.send(b"")) == []
    assert peer.server.pending() == b""


def test_either_side_ends(contexts: Contexts) -> None:
    peer = Peer(contexts)
    peer.shake_hands()
    with pytest.raises(ssl.SSLWantReadError):
        peer.client.unwrap()
    peer.pass_on()
    assert peer.server.ended
    peer = Peer(contexts)
    peer.shake_hands()
    peer.incoming.write(peer.server.close())
    assert peer.client.read(10) == b""
    peer.client.unwrap()
    peer.pass_on()  # the peer's answer to our good-bye
    assert peer.server.ended


def test_the_end_before_the_handshake(contexts: Contexts) -> None:
    assert Tls(contexts.server).close() == b""


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_what_is_no_tls(contexts: Contexts, garbage: bytes) -> None:
    tls = Tls(contexts.server)
    buffer = memoryview(bytearray(RECORD))
    with contextlib.suppress(ssl.SSLError):
        assert list(tls.receive(memoryview(garbage), buffer)) == []
    assert not tls.established


def test_a_record_that_was_changed_on_the_way(contexts: Contexts) -> None:
    peer = Peer(contexts)
    peer.shake_hands()
    peer.client.write(b"hello")
    said = bytearray(peer.outgoing.read())
    said[-1] ^= 1
    with pytest.raises(ssl.SSLError):
        list(peer.server.receive(memoryview(said), peer.buffer))
    assert peer.server.pending()  # an alert
