"""Alert rules and dashboards ask for metrics that the program has, and say what to do."""

import json
import re

import pytest
import yaml

from mailserver.metrics import Metrics
from tests.unit.deploy.charts import CHART, ROOT, documents

FILES = CHART / "files"
PREFIX = "mailserver_"
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))


def known(prefix: str = "mailserver") -> set[str]:
    """Return the names of all series."""
    names = set()
    for name, _, kind, _, _ in Metrics(prefix).families():
        if kind == "counter":
            names.add(f"{name}_total")
        elif kind == "histogram":
            names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
        else:
            names.add(name)
    return names


def asked(expression: str, prefix: str = PREFIX) -> set[str]:
    """Return the series that an expression asks for; its brackets must match."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    depth = []
    for character in bare:
        if character in "([{":
            depth.append({"(": ")", "[": "]", "{": "}"}[character])
        elif character in ")]}":
            assert depth.pop() == character, expression
    assert not depth, expression
    return set(re.findall(rf"\b{prefix}\w+", bare))


def test_each_alert_comes_with_what_to_do() -> None:
    (group,) = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    rules = group["rules"]
    assert len(rules) == 17
    operate = (ROOT / "docs" / "operate.md").read_text()
    for rule in rules:
        assert asked(rule["expr"]), rule
        assert asked(rule["expr"]) <= known()
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"]
        assert f"| `{rule['alert']}` |" in operate


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_ask_for_what_there_is(path: object) -> None:
    board = json.loads((FILES / "dashboards" / str(path)).read_text())
    assert board["title"]
    assert board["panels"]
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert asked(target["expr"]), target
            assert asked(target["expr"]) <= known()


def test_there_are_three_dashboards_with_ids_of_their_own() -> None:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == 3


def test_the_chart_gives_both_the_prefix_of_the_metrics() -> None:
    metrics = {
        "prefix": "stalwart",
        "rules": {"enabled": True},
        "dashboards": {"enabled": True},
    }
    found = documents({"metrics": metrics})
    (rules,) = (each for each in found if each["kind"] == "PrometheusRule")
    (written,) = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    assert len(rules["spec"]["groups"][0]["rules"]) == len(written["rules"])
    for rule in rules["spec"]["groups"][0]["rules"]:
        assert asked(rule["expr"], "stalwart_") <= known("stalwart")
        assert PREFIX not in rule["expr"]
    boards = [each for each in found if each["kind"] == "ConfigMap"]
    assert len(boards) == 3
    for board in boards:
        (text,) = board["data"].values()
        assert json.loads(text)["panels"]
        assert PREFIX not in text


def test_the_names_of_the_component_that_is_replaced() -> None:
    text = Metrics("stalwart").render().decode()
    for name in ("messages_received", "messages_sent", "spam_blocked"):
        assert re.search(rf"^stalwart_{name}_total\S* 0\.0$", text, re.MULTILINE)
    assert re.search(r"^stalwart_queue_size\S* 0\.0$", text, re.MULTILINE)
    assert {
        *("stalwart_messages_received_total", "stalwart_messages_sent_total"),
        *("stalwart_spam_blocked_total", "stalwart_queue_size"),
    } <= known("stalwart")
