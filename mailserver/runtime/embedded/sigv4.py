"""One signed S3 request without a body, to ask an embedded server whether it serves us."""

import asyncio
import hashlib
import hmac
from datetime import datetime

EMPTY = hashlib.sha256(b"").hexdigest()
REGION = "us-east-1"
STATUS_LINE_LIMIT = 4096  # octets


def signed_request(
    method: str, host: str, path: str, access_key: str, secret_key: str, now: datetime
) -> bytes:
    """Return an HTTP/1.1 request signed as AWS Signature Version 4 says; `now` is in UTC."""
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": EMPTY, "x-amz-date": moment}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = "\n".join((method, path, "", lines, names, EMPTY))
    scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join(("AWS4-HMAC-SHA256", moment, scope, digest))
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    headers["connection"] = "close"
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode()


async def status(port: int, request: bytes, seconds: float) -> int | None:
    """Return the status a server on 127.0.0.1 answers with, or None when none answers in time."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, limit=STATUS_LINE_LIMIT
            )
            try:
                writer.write(request)
                line = await reader.readline()
            finally:
                writer.transport.abort()
    except (OSError, ValueError, TimeoutError):  # ValueError: a line over the limit
        return None
    parts = line.split(b" ", 2)
    well_formed = len(parts) == 3 and parts[0].startswith(b"HTTP/1.") and parts[1].isdigit()
    return int(parts[1]) if well_formed else None
