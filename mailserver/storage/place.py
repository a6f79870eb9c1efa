"""Where objects are kept; apart from what talks to it, which the supervisor does not need."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the bucket is and who may use it."""

    endpoint: str
    bucket: str
    region: str
    access_key: str
    secret_key: str
    prefix: str = ""
