"""Whether the bucket is there."""

import os
from dataclasses import replace

import pytest

from mailserver.storage.blobs import S3Blobs
from mailserver.storage.bucket import ensure
from tests.conftest import Bucketed


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket": "not-there"},
        {"secret_key": "wrong"},
        {"endpoint": "http://127.0.0.1:9"},
    ],
)
async def test_a_bucket_that_may_not_be_there(bucket: Bucketed, wrong: dict[str, str]) -> None:
    place = replace(bucket.bucket, **wrong)
    assert not await S3Blobs(lambda: place).has_bucket()


async def test_a_bucket_that_is_there(bucket: Bucketed) -> None:
    assert await bucket.blobs.has_bucket()  # with a prefix under which nothing is


async def test_a_bucket_is_seen_once_it_was_made(bucket: Bucketed) -> None:
    place = replace(bucket.bucket, bucket=f"made-{os.getpid()}")
    blobs = S3Blobs(lambda: place)
    assert not await blobs.has_bucket()
    for _ in range(2):
        await ensure(place)
        assert await blobs.has_bucket()
