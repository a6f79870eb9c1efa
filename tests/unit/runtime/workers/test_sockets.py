"""Listening sockets on the loopback interface; nothing is sent."""

import socket

import pytest

from mailserver.config import Listener
from mailserver.errors import ConfigurationError
from mailserver.runtime.workers.sockets import Sockets, inherited


def test_each_slot_has_a_socket_at_the_same_port() -> None:
    sockets = Sockets.open({"smtp": Listener(port=0), "imap": Listener(port=0)}, 3)
    try:
        assert sockets.slots == 3
        assert sockets.addresses.keys() == {"smtp", "imap"}
        for name, (host, port) in sockets.addresses.items():
            rows = sockets.descriptors[name]
            assert len({number for row in rows for number in row}) == 3
            for row in inherited({name: rows})[name]:
                for each in row:
                    assert each.getsockname() == (host, port)
                    assert each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
                    each.detach()
    finally:
        sockets.close()


def test_what_is_unchanged_is_kept_and_the_rest_is_opened_anew() -> None:
    listeners = {"smtp": Listener(port=0), "imap": Listener(port=0)}
    before = Sockets.open(listeners, 1)
    changed = listeners | {"imap": Listener(host="127.0.0.2", port=0)}
    after = Sockets.open(changed, 2, before)
    try:
        assert after.addresses["smtp"] == before.addresses["smtp"]
        assert after.descriptors["smtp"][0] == before.descriptors["smtp"][0]
        assert after.addresses["imap"][0] == "127.0.0.2"
        old = before.addresses["imap"]
        before.close(but=after)
        socket.create_connection(after.addresses["smtp"], 5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(old, 5)
        assert Sockets.open(changed, 1, after).slots == 2  # none is closed while it may be in use
    finally:
        after.close()


@pytest.mark.parametrize("reuse", [False, True])
def test_a_port_of_somebody_else_is_not_shared(reuse: bool) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=reuse) as taken:
        port = taken.getsockname()[1]
        free = Listener(port=0)
        with pytest.raises(ConfigurationError, match=rf"listeners\.imap: .* port {port}: "):
            Sockets.open({"smtp": free, "imap": Listener(port=port)}, 2)


def test_a_name_with_several_addresses() -> None:
    sockets = Sockets.open({"smtp": Listener(host="localhost", port=0)}, 2)
    try:
        (first, second) = sockets.descriptors["smtp"]
        assert len(first) == len(second) >= 1
    finally:
        sockets.close()
