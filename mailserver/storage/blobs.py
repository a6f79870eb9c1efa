"""The bucket: message bodies by object name, over obstore.

obstore carries the data (docs/architecture.md has the comparison with aioboto3); the bucket itself
is made by `storage.bucket`.
"""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Protocol

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from mailserver.errors import NotFound, Unavailable
from mailserver.storage.place import Bucket

TIMEOUT = timedelta(seconds=20)
CONNECT_TIMEOUT = timedelta(seconds=3)
RETRY_TIME = timedelta(seconds=5)


class Blobs(Protocol):
    """What the store of bodies needs of an object store."""

    async def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        ...

    async def get(self, name: str, offset: int, length: int) -> bytes:
        """Read a range of an object; NotFound, Unavailable."""
        ...

    async def size(self, name: str) -> int | None:
        """Return the length of an object in bytes, None when there is none."""
        ...

    async def delete(self, name: str) -> None:
        """Remove an object; one that is gone is no error."""
        ...

    def names(self) -> AsyncIterator[list[tuple[str, int]]]:
        """Return all objects as (name, bytes), a page at a time."""
        ...


class S3Blobs:
    """Objects of one bucket under one prefix."""

    def __init__(self, bucket: Callable[[], Bucket]) -> None:
        """Take the place as a function: keys rotate, and a changed one makes a new client."""
        self._bucket = bucket
        self._used: Bucket | None = None
        self._client: S3Store | None = None

    def _store(self) -> S3Store:
        bucket = self._bucket()
        if self._client is None or bucket != self._used:
            self._client = _client(bucket, bucket.prefix)
            self._used = bucket
        return self._client

    async def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        with _translated():
            await obstore.put_async(self._store(), name, data, use_multipart=False)

    async def get(self, name: str, offset: int, length: int) -> bytes:
        """Read a range of an object; NotFound, Unavailable."""
        with _translated():
            return bytes(
                await obstore.get_range_async(self._store(), name, start=offset, length=length)
            )

    async def size(self, name: str) -> int | None:
        """Return the length of an object in bytes, None when there is none."""
        try:
            with _translated():
                return (await obstore.head_async(self._store(), name))["size"]
        except NotFound:
            return None

    async def delete(self, name: str) -> None:
        """Remove an object; one that is gone is no error."""
        try:
            with _translated():
                await obstore.delete_async(self._store(), name)
        except NotFound:
            return

    async def names(self) -> AsyncIterator[list[tuple[str, int]]]:
        """Return all objects as (name, bytes), a page at a time."""
        with _translated():
            async for page in obstore.list(self._store(), chunk_size=1000):
                yield [(entry["path"], entry["size"]) for entry in page]

    async def check(self) -> None:
        """Raise Unavailable unless the bucket answers."""
        await self.size("readiness-probe")

    async def has_bucket(self) -> bool:
        """Tell whether the bucket is there for sure; also False when that cannot be told."""
        try:
            # an object without a name is the bucket: this is HeadBucket
            await obstore.head_async(_client(self._bucket(), ""), "")
        except (BaseError, OSError, TimeoutError):
            return False
        return True


def _client(bucket: Bucket, prefix: str) -> S3Store:
    return S3Store(
        bucket.bucket,
        prefix=prefix or None,
        endpoint=bucket.endpoint,
        region=bucket.region,
        access_key_id=bucket.access_key,
        secret_access_key=bucket.secret_key,
        virtual_hosted_style_request=False,
        client_options={
            "allow_http": bucket.endpoint.startswith("http://"),
            "timeout": TIMEOUT,
            "connect_timeout": CONNECT_TIMEOUT,
        },
        retry_config={"max_retries": 2, "retry_timeout": RETRY_TIME},
    )


class _translated:  # noqa: N801  (reads as a word in a with statement)
    """Give the failures of the object store their neutral names."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotFoundError | FileNotFoundError):
            raise NotFound("S3: no such object") from error
        if isinstance(error, BaseError | OSError | TimeoutError):
            raise Unavailable(f"S3: {type(error).__name__}") from error
