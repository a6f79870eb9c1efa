"""Helm, to render the chart: its library, as tests/clients.sh installs it, or the program."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "chart"
LIBRARY = ROOT / ".clients" / "helm"

Document = dict[str, Any]


HEAD = """\
# The chart with its default values and without the migration job (the server brings the schema up
# to date by itself), for kubectl:
#
#   kubectl create namespace communication
#   kubectl apply -f deploy/manifest.yaml
#
# The Secrets mailserver-database (url), mailserver-s3 (access-key, secret-key) and mailserver-tls
# (tls.crt, tls.key) have to be there. Made by `make manifest`.
"""
PLAIN_VALUES: dict[str, object] = {"migrations": {"job": False}}


class Refused(Exception):
    """Helm does not render the chart with these values; the text says why."""


def render(values: Mapping[str, object], chart: Path = CHART) -> dict[str, str]:
    """Return the rendered files by template; skip the test where there is no Helm."""
    if LIBRARY.is_dir():
        return _by_library(values, chart)
    if shutil.which("helm"):
        return _by_program(values, chart)
    pytest.skip("no Helm here: tests/clients.sh installs it")


def documents(values: Mapping[str, object]) -> list[Document]:
    """Return what Kubernetes would be given."""
    files = render(values)
    return [
        document
        for name, text in sorted(files.items())
        if not name.endswith(".txt")
        for document in yaml.safe_load_all(text)
        if document
    ]


def _by_library(values: Mapping[str, object], chart: Path) -> dict[str, str]:
    if str(LIBRARY) not in sys.path:
        sys.path.append(str(LIBRARY))
    import helm_python

    with helm_python.Chart.load(str(chart)) as loaded:
        try:
            files: dict[str, str] = loaded.render(
                dict(values), name="mail", namespace="communication"
            )
        except helm_python.HelmError as error:
            raise Refused(str(error)) from error
    return files


def _by_program(values: Mapping[str, object], chart: Path) -> dict[str, str]:
    done = subprocess.run(
        ["helm", "template", "mail", str(chart), "--namespace", "communication", "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return {"all.yaml": done.stdout}


def main() -> None:
    """Write deploy/manifest.yaml."""
    texts = [
        yaml.safe_dump(document, sort_keys=False, width=100) for document in documents(PLAIN_VALUES)
    ]
    (ROOT / "deploy" / "manifest.yaml").write_text(HEAD + "---\n" + "---\n".join(texts))


if __name__ == "__main__":
    main()
