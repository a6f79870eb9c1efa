"""Resident memory of the idle server process, without PostgreSQL and SeaweedFS."""

import json
import tempfile
from pathlib import Path

from tests.running import RunningServer

TARGET = 120.0  # MB, resident


def run(quick: bool) -> dict[str, object]:
    """Start a server, let it settle, and read its memory."""
    with tempfile.TemporaryDirectory() as folder:
        server = RunningServer(Path(folder) / "data")
        server.start()
        try:
            rollup = Path(f"/proc/{server.pid}/smaps_rollup").read_text()
        finally:
            server.close()
    kilobytes = {
        line.split(":")[0].lower(): int(line.split()[1])
        for line in rollup.splitlines()
        if line.startswith(("Rss:", "Pss:", "Private_Dirty:"))
    }
    return {
        "resident_mb": round(kilobytes["rss"] / 1000, 1),
        "proportional_mb": round(kilobytes["pss"] / 1000, 1),
        "private_dirty_mb": round(kilobytes["private_dirty"] / 1000, 1),
        "target_resident_mb": TARGET,
        "within_target": kilobytes["rss"] / 1000 <= TARGET,
    }


if __name__ == "__main__":
    print(json.dumps(run(quick=False), indent=2))
