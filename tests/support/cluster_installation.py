"""An installation of the chart in a cluster, for the tests that need one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from windlass.cluster.settings import SETTINGS_KEY, ClusterSettings

CHART = Path(__file__).parents[2] / "charts" / "windlass"
VALUES_VARIABLE = "WINDLASS_TEST_CLUSTER_VALUES"
"""A values file for another cluster than a small one with our images on its nodes."""
DATABASE_SECRET = "windlass-database"
STORAGE_SECRET = "windlass-storage"
_STORAGE_VARIABLES = (
    "WINDLASS_TEST_CLUSTER_S3_ENDPOINT",
    "WINDLASS_TEST_CLUSTER_S3_PUBLIC_ENDPOINT",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)
_START_S = 240
_JOBS = "jobs.batch,pytorchjobs.kubeflow.org,trainjobs.trainer.kubeflow.org"


def why_not() -> str | None:
    """What an installation lacks here, or None."""
    if missing := [name for name in ("KUBECONFIG", *_STORAGE_VARIABLES) if not os.environ.get(name)]:
        return f"not set: {', '.join(missing)}"
    if missing := [name for name in ("kubectl", "helm") if shutil.which(name) is None]:
        return f"not on PATH: {', '.join(missing)}"
    return None


def run(*command: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run kubectl or helm; a failure shows what it said."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=_START_S + 60)
    if check and done.returncode:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


@dataclass(frozen=True)
class Installation:
    """One release in a namespace of its own."""

    namespace: str
    release: str
    values: tuple[str, ...]
    """What this release was installed with, for helm."""

    @property
    def settings(self) -> ClusterSettings:
        """What the chart tells the command line."""
        document = self.get("configmap", f"{self.release}-settings")
        return ClusterSettings.from_json(document["data"][SETTINGS_KEY], "the chart's ConfigMap")

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run("kubectl", "-n", self.namespace, *arguments, text=text, check=check)

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run("helm", "-n", self.namespace, *arguments, check=check)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def upgrade(self, *arguments: str) -> None:
        """Install the chart, or change some of its values, and wait until all of it is ready."""
        wait = ("--install", "--wait", "--timeout", f"{_START_S}s")
        done = self.helm("upgrade", self.release, str(CHART), *self.values, *arguments, *wait, check=False)
        if done.returncode:
            pods = self.kubectl("describe", "pods").stdout[-4000:]
            pytest.fail(f"the chart did not start: {done.stderr}\n{pods}")

    def test(self) -> None:
        """Run `helm test`; a failure shows what its pod said."""
        done = self.helm("test", self.release, "--timeout", f"{_START_S}s", check=False)
        if done.returncode:
            logs = [self.kubectl("logs", pod, "--tail=40", check=False) for pod in self._own_pods()]
            pytest.fail("\n".join([done.stderr, *(log.stdout + log.stderr for log in logs)]))

    def _own_pods(self) -> tuple[str, ...]:
        return f"{self.release}-test", f"deployment/{self.release}-gateway", f"deployment/{self.release}-mlflow"

    @contextmanager
    def forward(self, service: str, port: int) -> Iterator[str]:
        """The service's address on this machine, such as `forward("windlass-gateway", 8080)`."""
        command = ["kubectl", "-n", self.namespace, "port-forward", f"service/{service}", f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if found is None:
                process.kill()
                pytest.fail(f"port-forward said {line}")
            try:
                yield f"http://127.0.0.1:{found[1]}"
            finally:
                process.kill()

    def rights(self, account: str) -> list[str]:
        """What a service account may do, as the cluster itself answers: lines such as `get,list pods`, in order."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": self.namespace},
        }
        identity = [f"--as={self.account(account)}", "--as-group=system:serviceaccounts"]
        identity += ["--as-group=system:authenticated", f"--as-group=system:serviceaccounts:{self.namespace}"]
        arguments = ["create", "--raw", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "-f", "-", *identity]
        answer = json.loads(self.kubectl(*arguments, text=json.dumps(review)).stdout)
        lines = set()
        for rule in answer["status"]["resourceRules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    suffix = f".{group}" if group else ""
                    lines.add(f"{','.join(sorted(rule['verbs']))} {resource}{suffix}")
        return sorted(lines)

    def account(self, name: str) -> str:
        """The user name of a service account, for `--as`."""
        return f"system:serviceaccount:{self.namespace}:{name}"


@contextmanager
def installed(*arguments: str) -> Iterator[Installation]:
    """The chart in a fresh namespace under Pod Security `restricted`, with a bucket of its own; all of it goes again.

    Args:
        arguments: for helm, such as `--set gateway.drainSeconds=10`.
    """
    name = f"windlass-test-{uuid.uuid4().hex[:8]}"
    installation = Installation(namespace=name, release="windlass", values=(*_values(name), *arguments))
    with _bucket(name):
        try:
            _make_namespace(installation)
            installation.upgrade()
            yield installation
        finally:
            # What still runs would write into the bucket while it is emptied.
            installation.kubectl("delete", _JOBS, "--all", "--cascade=foreground", "--timeout=90s", check=False)
            installation.helm("uninstall", "windlass", "--ignore-not-found", "--wait")
            run("kubectl", "delete", "namespace", name, "--ignore-not-found", "--wait=false")


def _values(bucket: str) -> tuple[str, ...]:
    storage = {
        "root": f"s3://{bucket}/trial",
        "endpoint": os.environ["WINDLASS_TEST_CLUSTER_S3_ENDPOINT"],
        "publicEndpoint": os.environ["WINDLASS_TEST_CLUSTER_S3_PUBLIC_ENDPOINT"],
        "existingSecret": STORAGE_SECRET,
    }
    file = os.environ.get(VALUES_VARIABLE) or str(CHART / "ci" / "small-values.yaml")
    database = f"database.existingSecret={DATABASE_SECRET}"
    return "-f", file, "--set-json", f"storage={json.dumps(storage)}", "--set", database


def _make_namespace(installation: Installation) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    # characters that an address would have to escape
    _apply("v1", "Namespace", {"name": installation.namespace, "labels": labels})
    database, storage = (
        {"name": name, "namespace": installation.namespace} for name in (DATABASE_SECRET, STORAGE_SECRET)
    )
    _apply("v1", "Secret", database, stringData={"password": f"p@ss:w/rd%{uuid.uuid4().hex}"})
    _apply("v1", "Secret", storage, stringData={key: os.environ[key] for key in keys})


def _apply(version: str, kind: str, metadata: dict[str, Any], **rest: Any) -> None:
    document = {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}
    run("kubectl", "apply", "-f", "-", text=json.dumps(document))


@contextmanager
def _bucket(name: str) -> Iterator[None]:
    import boto3

    endpoint = os.environ["WINDLASS_TEST_CLUSTER_S3_PUBLIC_ENDPOINT"]
    bucket = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=name)
    try:
        yield
    finally:
        bucket.objects.all().delete()
        bucket.delete()
