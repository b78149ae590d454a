"""The chart without a cluster: what it renders, what it refuses, what it documents."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import windlass
from windlass.cluster.settings import SETTINGS_LABEL, ClusterSettings
from windlass_gateway.config import GatewayConfig

CHART = Path(__file__).parents[2] / "charts" / "windlass"
SMALL = CHART / "ci" / "small-values.yaml"
WORKLOADS = ("Deployment", "StatefulSet", "Pod")

HELMS = [name for name in ("helm", "helm4") if shutil.which(name)]
needs_helm = pytest.mark.skipif(not HELMS, reason="helm is not on PATH")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def _template(helm: str, *arguments: str) -> list[dict[str, Any]]:
    done = _run(
        *(helm, "template", "windlass", str(CHART), "-f", str(SMALL), "--namespace", "team"),
        *("--kube-version", "1.34", *arguments),
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def _refusal(*arguments: str) -> str:
    done = _run(
        *(HELMS[0], "template", "windlass", str(CHART), "-f", str(SMALL), "--kube-version", "1.34"),
        *arguments,
    )
    assert done.returncode != 0
    return done.stderr


def _find(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(item for item in documents if item["kind"] == kind and item["metadata"]["name"] == name)


def _pods(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    workloads = [item for item in documents if item["kind"] in WORKLOADS]
    return [item["spec"] if item["kind"] == "Pod" else item["spec"]["template"]["spec"] for item in workloads]


def test_the_chart_has_the_version_of_the_library() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (windlass.__version__, windlass.__version__)


def test_every_template_has_its_tests() -> None:
    templates = {
        path.relative_to(CHART / "templates").with_suffix("")
        for path in (CHART / "templates").rglob("*.*")
        if path.name != "_helpers.tpl"
    }
    tests = {
        path.relative_to(CHART / "tests").with_name(path.name.removesuffix("_test.yaml"))
        for path in (CHART / "tests").rglob("*.yaml")
    }
    assert templates == tests


@needs_helm
@pytest.mark.parametrize("helm", HELMS)
def test_it_lints(helm: str) -> None:
    done = _run(helm, "lint", "--strict", "--kube-version", "1.34", "-f", str(SMALL), str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(len(HELMS) < 2, reason="only one helm is on PATH")
def test_both_major_versions_of_helm_render_the_same() -> None:
    one, other = (_template(helm, "--set", "global.imagePullSecrets[0].name=pull") for helm in HELMS)
    assert one == other


@pytest.mark.skipif(shutil.which("helm-unittest") is None, reason="helm-unittest is not on PATH")
def test_its_own_unit_tests_pass() -> None:
    done = _run("helm-unittest", "-f", "tests/**/*_test.yaml", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_helm
def test_the_command_line_reads_the_settings() -> None:
    arguments = ["pipelines.namespace=runs", "global.imagePullSecrets[0].name=pull"]
    documents = _template(HELMS[0], *(part for argument in arguments for part in ("--set", argument)))
    found = _find(documents, "ConfigMap", "windlass-settings")
    assert found["metadata"]["labels"][SETTINGS_LABEL] == "true"
    settings = ClusterSettings.from_json(found["data"]["settings.json"], "the chart")
    assert settings.release == "windlass"
    assert settings.namespace == "runs"
    assert settings.image == f"localhost/windlass:{windlass.__version__}-cpu"
    assert settings.image_pull_secrets == ("pull",)
    assert settings.storage.root == "s3://windlass/trial"
    assert settings.storage.secret == "windlass-storage"
    assert settings.tracking_uri == "http://windlass-mlflow.team.svc.cluster.local:5000"
    accounts = {item["metadata"]["name"] for item in documents if item["kind"] == "ServiceAccount"}
    assert {settings.pipeline_service_account, settings.training_service_account} <= accounts


@needs_helm
def test_the_settings_with_spark_name_accounts_that_are_there() -> None:
    documents = _template(HELMS[0], "--set", "spark.enabled=true")
    settings = ClusterSettings.from_json(
        _find(documents, "ConfigMap", "windlass-settings")["data"]["settings.json"], "the chart"
    )
    assert settings.spark is not None
    accounts = {item["metadata"]["name"] for item in documents if item["kind"] == "ServiceAccount"}
    assert {settings.spark.driver_service_account, settings.spark.executor_service_account} <= accounts
    assert settings.spark.image == f"localhost/windlass:{windlass.__version__}-spark"


@needs_helm
def test_the_settings_of_a_store_of_aws_leave_the_endpoint_out() -> None:
    empty = ("storage.endpoint=", "storage.publicEndpoint=", "storage.existingSecret=")
    documents = _template(HELMS[0], *(part for argument in empty for part in ("--set", argument)))
    text = _find(documents, "ConfigMap", "windlass-settings")["data"]["settings.json"]
    storage = ClusterSettings.from_json(text, "the chart").storage
    assert (storage.endpoint, storage.public_endpoint, storage.secret) == (None, None, None)


@needs_helm
def test_the_gateway_reads_its_settings() -> None:
    documents = _template(HELMS[0], "--set", "gateway.settings.max_body_bytes=1MB", "--set", "gateway.drainSeconds=7")
    text = _find(documents, "ConfigMap", "windlass-gateway")["data"]["gateway.json"]
    config = GatewayConfig.model_validate_json(text)
    assert (config.max_body_bytes, config.drain_s, config.host, config.port) == (10**6, 7, "0.0.0.0", 8080)  # noqa: S104
    assert "windlass-gateway.team.svc" in config.allowed_hosts


def test_each_setting_of_the_gateway_is_a_value_and_the_other_way_around() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    known = set(schema["properties"]["gateway"]["properties"]["settings"]["properties"])
    fixed = {"tracking_uri", "cache", "host", "port", "models", "allowed_hosts", "drain_s"}
    assert known == set(GatewayConfig.model_fields) - fixed


@needs_helm
@pytest.mark.parametrize("release", ["windlass", "second"])
def test_every_pod_meets_pod_security_restricted_with_a_read_only_root(release: str) -> None:
    for pod in _pods(_template(HELMS[0], "--set", f"fullnameOverride={release}")):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


@needs_helm
def test_no_pod_names_a_user_where_the_cluster_assigns_one() -> None:
    users = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    values = ("--set-json", f"security={json.dumps(users)}", "--set-json", f"postgres.security={json.dumps(users)}")
    for pod in _pods(_template(HELMS[0], *values)):
        assert not users.keys() & pod["securityContext"].keys()


@needs_helm
def test_the_values_for_production_in_the_documentation_are_values(tmp_path: Path) -> None:
    text = (CHART.parents[1] / "docs" / "how-to" / "production-values.md").read_text(encoding="utf-8")
    example = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0].replace("sha256:…", f"sha256:{'0' * 64}")
    (tmp_path / "values.yaml").write_text(example)
    done = _run(
        *(HELMS[0], "template", "windlass", str(CHART), "-f", str(tmp_path / "values.yaml"), "--kube-version", "1.34")
    )
    assert done.returncode == 0, done.stderr
    assert "postgres-0" not in done.stdout


@needs_helm
def test_no_template_makes_a_secret() -> None:
    assert "Secret" not in {item["kind"] for item in _template(HELMS[0])}


@needs_helm
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("gatway.models={}", "'gatway' not allowed"),
        ("gateway.replicas=3", "'replicas' not allowed"),
        ("storage.root=/data", "/storage/root"),
        ("mlflow.artifacts.mode=both", "/mlflow/artifacts/mode"),
        ("postgres.image.digest=abc", "/postgres/image/digest"),
        ("database.existingSecret=", "database.existingSecret is missing"),
        ("storage.root=", "storage.root is missing"),
        ("postgres.enabled=false", "database.host is missing"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(argument: str, message: str) -> None:
    assert message in _refusal("--set", argument)


@needs_helm
@pytest.mark.parametrize("helm", HELMS)
def test_it_is_a_part_of_an_umbrella_chart(helm: str, tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "charts" / "windlass")
    (tmp_path / "Chart.yaml").write_text(
        "apiVersion: v2\nname: umbrella\nversion: 1.0.0\n"
        "dependencies: [{name: windlass, version: '*', condition: windlass.enabled}]\n"
    )
    (tmp_path / "values.yaml").write_text(
        yaml.safe_dump(
            {
                "global": {"imageRegistry": "registry.example.com", "theirs": {"a": 1}},
                "windlass": yaml.safe_load(SMALL.read_text(encoding="utf-8")) | {"enabled": True},
            }
        )
    )
    done = _run(helm, "template", "up", str(tmp_path), "--kube-version", "1.34")
    assert done.returncode == 0, done.stderr
    assert f"image: registry.example.com/windlass-gateway:{windlass.__version__}" in done.stdout
    off = _run(helm, "template", "up", str(tmp_path), "--kube-version", "1.34", "--set", "windlass.enabled=false")
    assert off.returncode == 0
    assert "kind:" not in off.stdout


@pytest.mark.skipif(shutil.which("helm-docs") is None, reason="helm-docs is not on PATH")
def test_the_readme_of_the_chart_lists_every_value(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "windlass")
    strict = ["--documentation-strict-mode", "--documentation-strict-ignore-absent-regex", "^$"]
    done = _run("helm-docs", "--chart-search-root", str(tmp_path), "--sort-values-order", "file", *strict)
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "windlass" / "README.md").read_text(encoding="utf-8")
    assert made == (CHART / "README.md").read_text(encoding="utf-8"), (
        "run `helm-docs --chart-search-root charts --sort-values-order file`"
    )
