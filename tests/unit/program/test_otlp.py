"""Spans never keep a process."""

import socket
import time

import pytest

from mailserver.app import otlp
from mailserver.config import Config


def test_a_collector_that_is_silent_does_not_keep_a_process_that_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp, "LAST", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, and says nothing
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = Config.model_validate(
            {"server": {"hostname": "mx.example.test"}, "tracing": {"endpoint": endpoint}}
        )
        tracing = otlp.Tracing(config, "node")
        for _ in range(2 * otlp.QUEUE):
            with tracing.span("work"):
                pass
        begun = time.monotonic()
        tracing.close()
        assert time.monotonic() - begun < 15  # by itself the last of it takes 30
