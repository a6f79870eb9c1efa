"""The committed table of outcomes."""

import tomllib
from pathlib import Path
from typing import Any

_TABLE: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("expected.toml").read_text(encoding="utf-8")
)

SCRIPTS: dict[str, str | bool] = _TABLE["scripts"]  # True, or why it is skipped
LIVE_SKIPPED: dict[str, str] = _TABLE["live"]["skipped"]  # test, why
LIVE_FAILED: dict[str, str] = _TABLE["live"]["failed"]
JMAP_SUITE: dict[str, str] = _TABLE["jmap"]["suite"]  # test, pass or fail or skip
JMAPLIB: dict[str, str] = _TABLE["jmap"]["jmaplib"]  # test, passed or failed or skipped
