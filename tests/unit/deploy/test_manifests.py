"""What is in deploy/ is valid, restricted, and says nothing that the program does not know."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from mailserver.config import Config
from mailserver.config_file import load, problems_for_service, settings
from tests.unit.deploy.charts import (
    CHART,
    PLAIN_VALUES,
    ROOT,
    Document,
    Refused,
    documents,
    render,
)

DEPLOY = ROOT / "deploy"
KUBERNETES = "1.34"
# Everything that can be switched on, at the same time.
EVERYTHING = {
    "autoscaling": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "metrics": {
        "prefix": "stalwart",
        "serviceMonitor": {"enabled": True},
        "rules": {"enabled": True},
        "dashboards": {"enabled": True},
    },
    "tls": {"certificate": {"enabled": True}},
    "gateway": {"enabled": True, "tcp": True, "parentRefs": [{"name": "mail"}]},
    "oidc": {"issuer": "https://login.example.org/realms/mail", "existingSecret": "oidc"},
    "sealing": {"existingSecret": "sealing"},
    "database": {"directExistingSecret": "direct", "notices": "listen"},
    "proxies": {"networks": ["10.0.0.0/8", "fd00::/8"], "forwarded": ["10.0.0.0/8"]},
    "image": {"digest": "sha256:" + 64 * "0", "pullSecrets": [{"name": "harbor"}]},
    "tracing": {"endpoint": "http://collector.monitoring.svc:4318", "ratio": 0.1},
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"disk": "fast"},
    "service": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
}
ROLES = {"roles": {"mx": {"replicas": 3}, "submission": {}, "imap": {}, "jmap": None, "worker": {}}}
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": EVERYTHING,
    "roles": ROLES,
    "roles and keda": {**ROLES, "keda": {"enabled": True}},
}
# Kinds of operators; Kubernetes has no schema for them.
CUSTOM = {
    *("Certificate", "HTTPRoute", "TCPRoute", "ServiceMonitor", "PrometheusRule", "ScaledObject"),
}
PLAIN = {"Deployment", "Job", "PodDisruptionBudget", "Service", "ServiceAccount"}
LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "part-of", "managed-by")}


def pods(found: list[Document]) -> Iterator[Document]:
    """Return the pod templates."""
    for document in found:
        if document["kind"] in ("Deployment", "Job"):
            yield document["spec"]["template"]["spec"]


def validate(found: list[Document]) -> None:
    for document in found:
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        assert document["metadata"]["labels"].keys() >= LABELS, document["metadata"]
        assert document["metadata"]["namespace"] == "communication"


def configuration(pod: Document) -> Config:
    """Return the configuration that a container would have: it names no key that is unknown."""
    (container,) = pod["containers"]
    environment = {}
    for variable in container["env"]:
        name = variable["name"]
        if name.endswith("_FILE"):
            name, value = name.removesuffix("_FILE"), "postgresql://secret"
        elif "valueFrom" in variable:
            value = "postgresql://secret"
        else:
            value = variable["value"]
        environment[name] = value
    return load(environment=environment).config


def assert_restricted(pod: Document) -> None:
    """Pod security standard `restricted`, and what the platform asks beyond it."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for volume in pod["volumes"]:
        assert volume.keys() - {"name"} <= {"emptyDir", "secret", "projected"}
        assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"]["memory"]
        assert ":latest" not in container["image"]
        assert all(port["containerPort"] >= 1024 for port in container.get("ports", ()))


@pytest.mark.parametrize("name", VALUES)
def test_the_chart_renders_valid_and_restricted(name: str) -> None:
    found = documents(VALUES[name])
    validate(found)
    for pod in pods(found):
        assert_restricted(pod)
        assert problems_for_service(configuration(pod)) == []
    names = [(document["kind"], document["metadata"]["name"]) for document in found]
    assert len(names) == len(set(names))


def test_what_needs_an_operator_is_off_by_default() -> None:
    assert {document["kind"] for document in documents({})} == PLAIN
    assert {document["kind"] for document in documents(EVERYTHING)} >= CUSTOM - {"ScaledObject"}


def test_each_service_leads_to_a_port_of_its_pods() -> None:
    for values in ({}, ROLES):
        found = documents(values)
        ports: dict[str, set[str]] = {}
        for document in found:
            if document["kind"] == "Deployment":
                (container,) = document["spec"]["template"]["spec"]["containers"]
                component = document["metadata"]["labels"]["app.kubernetes.io/component"]
                ports[component] = {port["name"] for port in container["ports"]}
        exposed = set()
        for document in found:
            if document["kind"] != "Service":
                continue
            component = document["spec"]["selector"].get("app.kubernetes.io/component")
            if component:
                for port in document["spec"]["ports"]:
                    assert port["targetPort"] in ports[component]
                    exposed.add(port["port"])
        assert exposed == {25, 443, 465, 587, 993}


def test_each_role_listens_for_its_own_and_one_does_the_background_work() -> None:
    found = {
        document["metadata"]["labels"]["app.kubernetes.io/component"]: configuration(
            document["spec"]["template"]["spec"]
        )
        for document in documents(ROLES)
        if document["kind"] == "Deployment"
    }
    enabled = {
        role: {
            name
            for name in type(config.listeners).model_fields
            if getattr(config.listeners, name).enabled
        }
        for role, config in found.items()
    }
    assert enabled == {
        "mx": {"smtp", "http"},
        "submission": {"submission", "submissions", "http"},
        "imap": {"imaps", "http"},
        "jmap": {"http"},
        "worker": {"http"},
    }
    busy = [role for role, config in found.items() if config.mover.enabled]
    assert busy == ["worker"]
    assert [role for role, config in found.items() if config.outbound.enabled] == ["worker"]


def test_the_schema_is_brought_up_to_date_before_pods_are_replaced() -> None:
    (job,) = (each for each in documents({}) if each["kind"] == "Job")
    hooks = job["metadata"]["annotations"]["helm.sh/hook"]
    assert hooks == "pre-install,pre-upgrade"  # while the pods of before still serve
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["migrate"]
    # what is not there before the release is installed cannot be used by a hook of it
    assert pod.get("serviceAccountName", "default") == "default"
    (deployment,) = (each for each in documents({}) if each["kind"] == "Deployment")
    assert container["image"] == deployment["spec"]["template"]["spec"]["containers"][0]["image"]


def test_proxies_are_believed_where_they_speak() -> None:
    proxies = {"networks": ["10.1.0.0/16", "fd00::/8"], "forwarded": ["10.2.0.0/16"]}
    clients: list[Document] = [{"namespaceSelector": {}}]
    found = documents({"proxies": proxies, "networkPolicy": {"enabled": True, "clients": clients}})
    (deployment,) = (each for each in found if each["kind"] == "Deployment")
    config = configuration(deployment["spec"]["template"]["spec"])
    for name in ("smtp", "submission", "submissions", "imaps"):
        assert getattr(config.listeners, name).proxy_networks == "10.1.0.0/16 fd00::/8"
    # the kubelet asks there, and speaks no PROXY protocol
    assert config.listeners.http.proxy_networks == ""
    assert config.http.forwarded_networks == "10.2.0.0/16"
    (policy,) = (each for each in found if each["kind"] == "NetworkPolicy")
    peers = policy["spec"]["ingress"][0]["from"]
    assert peers == clients + [
        {"ipBlock": {"cidr": cidr}} for cidr in ("10.1.0.0/16", "fd00::/8", "10.2.0.0/16")
    ]


def test_a_pod_has_time_to_drain() -> None:
    (deployment,) = (each for each in documents({}) if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    server = configuration(pod).server
    assert pod["terminationGracePeriodSeconds"] > server.stop_delay + server.grace
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"replicas": 0}, "replicas"),
        ({"roles": {"pop": {}}}, "pop"),
        ({"s3": {"endpoint": "seaweedfs:8333"}}, "endpoint"),
        ({"proxies": {"networks": ["10.0.0.1"]}}, "networks"),
        ({"keda": {"enabled": True}, "autoscaling": {"enabled": True}}, "enable one of them"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        render(values)


def test_the_schema_describes_the_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    assert values.keys() | {"global"} == schema["properties"].keys()
    for name, section in schema["properties"].items():
        if section.get("additionalProperties") is False and name != "roles":
            assert values[name].keys() <= section["properties"].keys()


def test_the_plain_manifest_is_the_chart_with_its_defaults() -> None:
    text = (DEPLOY / "manifest.yaml").read_text()
    assert list(yaml.safe_load_all(text)) == documents(PLAIN_VALUES)


@pytest.mark.parametrize("file", ["manifest.yaml", "openova/stalwart.yaml"])
def test_manifests_are_valid_and_restricted(file: str) -> None:
    found = list(yaml.safe_load_all((DEPLOY / file).read_text()))
    validate(found)
    for pod in pods(found):
        assert_restricted(pod)
        assert problems_for_service(configuration(pod)) == []


def test_the_drop_in_has_the_names_of_what_it_replaces() -> None:
    found = list(yaml.safe_load_all((DEPLOY / "openova/stalwart.yaml").read_text()))
    (pod,) = pods(found)
    (container,) = pod["containers"]
    url = next(each for each in container["env"] if each["name"] == "STALWART_DATABASE_URL")
    assert url["valueFrom"]["secretKeyRef"] == {"name": "stalwart-db-credentials", "key": "url"}
    assert configuration(pod).metrics.prefix == "stalwart"
    assert configuration(pod).database.url.get_secret_value() == "postgresql://secret"
    service = next(document for document in found if document["kind"] == "Service")
    assert [port["port"] for port in service["spec"]["ports"]] == [25, 465, 587, 993, 443]


def test_compose_gives_the_server_a_configuration_and_nothing_more() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert compose["services"].keys() == {"postgres", "seaweedfs", "mailserver"}
    server = compose["services"]["mailserver"]
    # a variable that nobody set has what stands behind its name
    environment = {
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
        for name, value in server["environment"].items()
    }
    config = load(environment=environment).config
    assert problems_for_service(config) == []
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    ports = {
        f":{getattr(config.listeners, name).port}" for name in type(config.listeners).model_fields
    }
    assert all(f":{port.rpartition(':')[2]}" in ports for port in server["ports"])
    for service in compose["services"].values():
        assert not service["image"].endswith(":latest"), service["image"]


def test_the_image_is_pinned_and_runs_as_nobody() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    bases = [line for line in lines if line.startswith("FROM ")]
    assert bases
    assert all("$" in line or line.split()[1].count(".") >= 2 for line in bases)
    assert "USER 10001:10001" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    # of the packages and, since nothing can be written there, of the standard library
    assert sum("compileall" in line and "unchecked-hash" in line for line in lines) == 2
    known = {setting.variable for setting in settings(Config())}
    given = re.findall(r"(MAILSERVER_\w+)=", (ROOT / "Dockerfile").read_text())
    assert given
    assert set(given) <= known


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        ("docker", "docker build -t mailserver:latest"),
        # their own format has no HEALTHCHECK
        ("podman", "podman build --format=docker -t mailserver:latest"),
        ("buildah", "buildah build --format=docker -t mailserver:latest"),
    ],
)
def test_whichever_tool_is_there_makes_the_image(tmp_path: Path, tool: str, line: str) -> None:
    for name in ("make", "git", "sh"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    program = tmp_path / tool
    program.write_text(f'#!/bin/sh\necho {tool} "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["make", "-C", str(ROOT), "image", "SHELL=/bin/sh"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert line in done.stdout


def test_the_blueprint_matches_the_chart() -> None:
    blueprint = yaml.safe_load((DEPLOY / "openova/blueprint.yaml").read_text())
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    umbrella = yaml.safe_load((DEPLOY / "openova/chart/Chart.yaml").read_text())
    assert blueprint["kind"] == "Blueprint"
    assert blueprint["metadata"]["version"] == umbrella["version"]
    (dependency,) = umbrella["dependencies"]
    assert dependency["name"] == chart["name"]
    assert dependency["version"] == chart["version"]
    assert (DEPLOY / "openova/chart" / dependency["repository"].removeprefix("file://")).is_dir()
    jsonschema.Draft7Validator.check_schema(blueprint["spec"]["configSchema"])
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((DEPLOY / "openova/chart/values.yaml").read_text())
    jsonschema.validate(values["mailserver"], schema)
    for overlay in blueprint["spec"]["manifests"]["overlays"].values():
        jsonschema.validate(overlay["mailserver"], schema)
    assert (DEPLOY / "openova" / blueprint["spec"]["card"]["icon"]).is_file()


def test_versions_agree() -> None:
    from mailserver import __version__

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    assert f"mailserver:{__version__}" in Path(DEPLOY / "openova/stalwart.yaml").read_text()
