"""What the service accounts of runs may do, as the cluster itself answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster_installation import Installation

pytestmark = [pytest.mark.cluster, pytest.mark.attack]

_ASK_THE_SERVER = """
import json, ssl, urllib.error, urllib.request
from pathlib import Path

account = Path("/var/run/secrets/kubernetes.io/serviceaccount")
trust = ssl.create_default_context(cafile=str(account / "ca.crt"))
answers = {}
for path in PATHS:
    request = urllib.request.Request("https://kubernetes.default.svc" + path)
    request.add_header("Authorization", "Bearer " + (account / "token").read_text())
    try:
        answers[path] = urllib.request.urlopen(request, context=trust, timeout=20).status
    except urllib.error.HTTPError as error:
        answers[path] = error.code
print(json.dumps(answers))
"""


def test_a_run_may_do_what_the_golden_list_says_and_nothing_else(installation: Installation) -> None:
    golden = Path(__file__).with_name("pipeline-rights.txt").read_text(encoding="utf-8").split("\n")
    account = installation.settings.pipeline_service_account
    assert installation.rights(account) == sorted(line for line in golden if line)


@pytest.mark.parametrize("component", ["training", "gateway", "mlflow", "postgres"])
def test_every_other_account_may_only_ask_about_itself(installation: Installation, component: str) -> None:
    rights = installation.rights(f"{installation.release}-{component}")
    assert rights
    assert all(line.startswith("create selfsubject") for line in rights)


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("list", "secrets"), ("get", "secrets"), ("create", "pods/exec"), ("create", "pods"), ("create", "jobs.batch")],
)
def test_a_run_that_takes_a_secret_or_a_shell_is_forbidden(
    installation: Installation, verb: str, resource: str
) -> None:
    account = installation.account(installation.settings.pipeline_service_account)
    answer = installation.kubectl("auth", "can-i", verb, resource, f"--as={account}", check=False)
    assert answer.stdout.strip() == "no"


def test_a_pod_of_a_run_cannot_read_secrets_of_its_own_or_of_another_namespace(installation: Installation) -> None:
    settings = installation.settings
    own = f"/api/v1/namespaces/{installation.namespace}"
    others = ["/api/v1/namespaces/kube-system/secrets", "/api/v1/namespaces/default/secrets", "/api/v1/secrets"]
    forbidden = [*others, f"{own}/secrets", f"{own}/secrets/windlass-database"]
    script = _ASK_THE_SERVER.replace("PATHS", json.dumps([*forbidden, f"{own}/pods"]))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "curious"},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": settings.pipeline_service_account,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "curious",
                    "image": settings.image,
                    "imagePullPolicy": settings.image_pull_policy,
                    "command": ["python", "-c", script],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
    installation.kubectl("apply", "-f", "-", text=json.dumps(pod))
    installation.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/curious", "--timeout=120s")
    answers = json.loads(installation.kubectl("logs", "curious").stdout)
    installation.kubectl("delete", "pod", "curious", "--wait=false")
    assert answers == dict.fromkeys(forbidden, 403) | {f"{own}/pods": 200}
