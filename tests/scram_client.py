"""The client's side of SCRAM-SHA-256 (RFC 5802 §3), written apart from the server's.

With a `header` that begins with `p=` it is SCRAM-SHA-256-PLUS, and `binding` the channel's data.
"""

import base64
import hashlib
import hmac
import ssl

HEADER = b"n,,"
PLUS_HEADER = b"p=tls-server-end-point,,"


def end_point(connection: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """Return the channel binding of a connection whose certificate is signed with SHA-256."""
    certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return hashlib.sha256(certificate).digest()


class ScramClient:
    """Answers what a server says."""

    def __init__(
        self,
        login: str,
        password: str,
        nonce: str = "fyko+d2lbbFgONRv9qkxdawL",
        *,
        header: bytes = HEADER,
        binding: bytes = b"",
    ) -> None:
        self._password = password
        self._header = header
        self._binding = binding
        self._bare = f"n={login},r={nonce}".encode()
        self._signature = b""

    def first(self) -> bytes:
        return self._header + self._bare

    def final(self, server_first: bytes) -> bytes:
        fields = dict(item.split(b"=", 1) for item in server_first.split(b","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", self._password.encode(), base64.b64decode(fields[b"s"]), int(fields[b"i"])
        )
        key = hmac.digest(salted, b"Client Key", "sha256")
        bare = b"c=" + base64.b64encode(self._header + self._binding) + b",r=" + fields[b"r"]
        signed = b",".join((self._bare, server_first, bare))
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(left ^ right for left, right in zip(key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self._signature = hmac.digest(server_key, signed, "sha256")
        return bare + b",p=" + base64.b64encode(proof)

    def end(self, server_final: bytes) -> bytes:
        """Check that the server knows the password too."""
        assert server_final == b"v=" + base64.b64encode(self._signature)
        return b""
