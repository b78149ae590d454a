"""Namespaces that `windlass doctor --on cluster` looks at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster_installation import STORAGE_SECRET, Installation, run
from windlass.cluster.settings import SETTINGS_KEY, SETTINGS_LABEL, ClusterSettings


@dataclass(frozen=True)
class Answer:
    """What `windlass doctor --on cluster --json` said."""

    exit_code: int
    findings: list[dict[str, str]]
    messages: str

    @property
    def problems(self) -> list[dict[str, str]]:
        return [finding for finding in self.findings if finding["status"] == "problem"]

    def named(self, name: str) -> dict[str, str]:
        return next(finding for finding in self.findings if finding["name"] == name)


def doctor_command(namespace: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "windlass_cli", "doctor", "--on", "cluster", "-n", namespace, "--json", *arguments]


def ask_doctor(namespace: str, *arguments: str, **environment: str) -> Answer:
    done = subprocess.run(
        doctor_command(namespace, *arguments),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    return Answer(done.returncode, json.loads(done.stdout), done.stderr)


def configuration(token: str) -> str:
    """A kubeconfig for the same cluster, with other credentials."""
    config = json.loads(run("kubectl", "config", "view", "--raw", "--minify", "-o", "json").stdout)
    config["users"][0]["user"] = {"token": token}
    return json.dumps(config)


@dataclass(frozen=True)
class Place:
    """A namespace for runs of its own, served by the servers of another installation."""

    settings: ClusterSettings

    @property
    def namespace(self) -> str:
        return self.settings.namespace

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return run("kubectl", "-n", self.namespace, *arguments, text=text).stdout

    def apply(self, version: str, kind: str, name: str, **rest: Any) -> None:
        document = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **rest}
        self.kubectl("apply", "-f", "-", text=json.dumps(document))

    def ask_doctor(self, *arguments: str, **environment: str) -> Answer:
        return ask_doctor(self.namespace, *arguments, **environment)

    def jobs(self) -> list[str]:
        return self.kubectl("get", "jobs", "-o", "name").split()

    def configuration(self, account: str) -> str:
        """A kubeconfig of one of its service accounts."""
        return configuration(self.kubectl("create", "token", account).strip())

    def fill(self, installation: Installation) -> None:
        """The settings, the account of runs, its Role and the object store's Secret."""
        account, role = self.settings.pipeline_service_account, f"{installation.release}-pipeline"
        self.apply("v1", "ServiceAccount", account)
        rules = installation.get("role", role)["rules"]
        self.apply("rbac.authorization.k8s.io/v1", "Role", role, rules=rules)
        self.kubectl("create", "rolebinding", role, f"--role={role}", f"--serviceaccount={self.namespace}:{account}")
        self.apply("v1", "Secret", STORAGE_SECRET, data=installation.get("secret", STORAGE_SECRET)["data"])
        document = f"--from-literal={SETTINGS_KEY}={self.settings.model_dump_json()}"
        self.kubectl("create", "configmap", "settings", document)
        self.kubectl("label", "configmap", "settings", f"{SETTINGS_LABEL}=true")


@contextmanager
def fresh_namespace() -> Iterator[str]:
    """Under Pod Security `restricted`."""
    name = f"windlass-test-{uuid.uuid4().hex[:8]}"
    run("kubectl", "create", "namespace", name)
    try:
        run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        yield name
    finally:
        run("kubectl", "delete", "namespace", name, "--wait=false")
