"""The bucket itself: made if it is missing, by aioboto3, which knows more of S3 than obstore.

aioboto3 costs 40 MB of memory, so it is imported only when a bucket has to be made.
"""

from mailserver.errors import Unavailable
from mailserver.storage.place import Bucket


async def ensure(bucket: Bucket) -> None:
    """Make the bucket unless it is there; raise Unavailable when S3 refuses."""
    import aioboto3
    from aiobotocore.config import AioConfig
    from botocore.exceptions import BotoCoreError, ClientError

    client = aioboto3.Session().client(
        "s3",
        endpoint_url=bucket.endpoint,
        region_name=bucket.region,
        aws_access_key_id=bucket.access_key,
        aws_secret_access_key=bucket.secret_key,
        config=AioConfig(s3={"addressing_style": "path"}, connect_timeout=3, read_timeout=10),
    )
    try:
        async with client as s3:
            try:
                await s3.head_bucket(Bucket=bucket.bucket)
            except ClientError as error:
                if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
                    raise
                await s3.create_bucket(Bucket=bucket.bucket)
    except (BotoCoreError, ClientError) as error:
        raise Unavailable(f"S3: {type(error).__name__}") from error
