"""The signed request, and answers of any kind to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from mailserver.runtime.embedded import sigv4


def test_the_signature_is_the_one_botocore_makes() -> None:
    moment = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    ours = sigv4.signed_request("HEAD", "127.0.0.1:8333", "/mail", "AKEY", "secret", moment)
    fields = dict(line.split(": ", 1) for line in ours.decode().split("\r\n")[1:] if line)
    request = AWSRequest(method="HEAD", url="http://127.0.0.1:8333/mail")
    request.context["timestamp"] = fields["x-amz-date"]
    request.headers["x-amz-date"] = fields["x-amz-date"]
    request.headers["x-amz-content-sha256"] = sigv4.EMPTY
    auth = S3SigV4Auth(Credentials("AKEY", "secret"), "s3", "us-east-1")
    text = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, text), request)
    assert fields["authorization"].endswith(f"Signature={signature}")


@asynccontextmanager
async def answering(data: bytes, *, close: bool = True) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if close:
            writer.close()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.0 404 Not Found\r\n", 404),
        (b"HTTP/1.1 200", None),
        (b"", None),
        (b"\x00\xff\r\n", None),
        (b"220 mail.example.test ESMTP\r\n", None),
        (b"HTTP/1.1 ok ok\r\n", None),
        (b"x" * 100_000, None),
    ],
)
async def test_any_answer_is_a_status_or_none(data: bytes, expected: int | None) -> None:
    async with answering(data) as port:
        assert await sigv4.status(port, b"HEAD / HTTP/1.1\r\n\r\n", 5) == expected


async def test_silence_ends_in_time() -> None:
    async with answering(b"", close=False) as port:
        assert await sigv4.status(port, b"HEAD / HTTP/1.1\r\n\r\n", 0.05) is None
