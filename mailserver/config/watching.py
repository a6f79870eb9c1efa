"""What the server tells those who run it."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from mailserver.config.values import Section


class Metrics(Section):
    """Prometheus."""

    prefix: str = Field(
        default="mailserver", description="put before every name with an underscore"
    )


class Tracing(Section):
    """Traces by OpenTelemetry."""

    endpoint: str = Field(
        default="", description="URL of a collector that takes OTLP by HTTP; empty: none are made"
    )
    ratio: float = Field(
        default=1.0, ge=0, le=1, description="part of the traces that is made, as 0.1"
    )

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, url: str) -> str:
        if url and urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("should be an http or https URL, as http://collector:4318")
        return url


class Log(Section):
    """Logging to standard error (terminal) or standard output (JSON)."""

    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: text on a terminal"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least important lines that are written"
    )
