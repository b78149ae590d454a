"""`windlass doctor --on cluster` names what is wrong with a real cluster, and the command that mends it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster_installation import STORAGE_SECRET, Installation
from doctor_places import Place, ask_doctor, configuration, doctor_command
from windlass.cluster.settings import SparkSettings

pytestmark = pytest.mark.cluster

MakePlace = Callable[..., Place]


def test_a_healthy_installation_has_no_problem_and_its_pod_is_taken_away(installation: Installation) -> None:
    answer = ask_doctor(installation.namespace)
    assert (answer.problems, answer.exit_code) == ([], 0), answer.messages
    names = [finding["name"] for finding in answer.findings]
    looked_at = ["kubernetes", "namespace", "your rights", "quota", "nodes", "gpus", "installation", "training jobs"]
    looked_at += ["rights of runs", "kubeflow pipelines", f"secret {STORAGE_SECRET}", "storage"]
    tried_in_a_pod = ["pod", "image", "storage (pod)", "tracking server", "gateway"]
    assert names == [*looked_at, *tried_in_a_pod]
    assert "PyTorchJob, what `auto` takes" in answer.named("training jobs")["found"]
    assert "windlass-probe" not in installation.kubectl("get", "jobs", "-o", "name").stdout


def test_without_a_pod_nothing_is_started(installation: Installation) -> None:
    answer = ask_doctor(installation.namespace, "--no-pod")
    assert answer.exit_code == 0
    assert answer.findings[-1]["name"] == "storage"
    assert answer.messages == ""


def test_a_secret_that_is_absent_is_named_with_the_command_that_makes_it(make_place: MakePlace) -> None:
    place = make_place(storage={"secret": "absent"})
    answer = place.ask_doctor()
    (problem,) = answer.problems
    assert problem["found"] == f"{place.namespace} has no Secret 'absent'"
    assert problem["action"].startswith(f"kubectl -n {place.namespace} create secret generic absent --from-literal=AWS")
    assert "not tried" in answer.named("pod")["found"]
    assert answer.exit_code == 1


def test_wrong_keys_in_the_secret_are_found_by_the_pod(make_place: MakePlace) -> None:
    place = make_place()
    wrong = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "wrong"}
    place.apply("v1", "Secret", STORAGE_SECRET, stringData=wrong)
    (problem,) = place.ask_doctor().problems
    assert problem["name"] == "storage (pod)"
    assert "does not allow" in problem["found"]
    assert f"create secret generic {STORAGE_SECRET}" in problem["action"]
    assert place.jobs() == []


def test_an_image_that_does_not_exist_is_named_with_the_chart_value(make_place: MakePlace) -> None:
    place = make_place(image="localhost/windlass:absent")
    (problem,) = place.ask_doctor().problems
    assert problem["found"].startswith("image localhost/windlass:absent cannot be pulled")
    assert "chart value pipelines.image" in problem["action"]
    assert place.jobs() == []


def test_an_image_of_spark_that_does_not_exist_is_named_with_the_chart_value(make_place: MakePlace) -> None:
    account = "windlass-pipeline"
    spark = {"driver_service_account": account, "executor_service_account": account}
    place = make_place(spark=SparkSettings(image="localhost/windlass:absent-spark", **spark))
    answer = place.ask_doctor()
    assert answer.named("pod")["status"] == "ok"
    problem = answer.named("spark pod")
    assert problem["status"] == "problem"
    assert problem["found"].startswith("image localhost/windlass:absent-spark cannot be pulled")
    assert "chart value spark.image" in problem["action"]
    assert place.jobs() == []


def test_a_quota_that_is_too_small_is_mended_by_the_command_that_is_named(make_place: MakePlace) -> None:
    place = make_place()
    place.apply("v1", "ResourceQuota", "small", spec={"hard": {"requests.memory": "1Gi"}})
    answer = place.ask_doctor("--no-pod")
    (problem,) = answer.problems
    assert "small leaves" in problem["found"]
    assert "requests.memory, a default run asks for" in problem["found"]
    subprocess.run(["bash", "-c", problem["action"]], check=True)
    assert place.ask_doctor("--no-pod").named("quota")["status"] == "ok"


def test_a_pod_that_the_quota_refuses_is_told(make_place: MakePlace) -> None:
    place = make_place()
    place.apply("v1", "ResourceQuota", "none", spec={"hard": {"count/pods": "0"}})
    (problem,) = place.ask_doctor().problems
    assert problem["name"] == "pod"
    assert "exceeded quota: none" in problem["found"]


def test_a_missing_right_is_mended_by_the_command_that_is_named(make_place: MakePlace, tmp_path: Path) -> None:
    place = make_place()
    place.apply("v1", "ServiceAccount", "ann")
    resources = "--resource=jobs.batch,pods,pods/log,configmaps"
    place.kubectl("create", "role", "some", "--verb=create,get,list,watch,delete", resources)
    place.kubectl("create", "rolebinding", "some", "--role=some", f"--serviceaccount={place.namespace}:ann")
    mine = tmp_path / "kubeconfig"
    mine.write_text(place.configuration("ann"))
    answer = place.ask_doctor("--no-pod", KUBECONFIG=str(mine))
    (problem,) = answer.problems
    assert problem["found"].endswith(f":ann may not list, watch events in {place.namespace}")
    for unseen in ("namespace", "rights of runs", "quota", f"secret {STORAGE_SECRET}"):
        assert answer.named(unseen)["status"] == "warning"
        assert "could not be checked: you may not" in answer.named(unseen)["found"]
    subprocess.run(["bash", "-c", problem["action"]], check=True)
    assert place.ask_doctor("--no-pod", KUBECONFIG=str(mine)).named("your rights")["status"] == "ok"


def test_who_may_only_run_sees_in_the_pod_that_the_secret_is_absent(make_place: MakePlace, tmp_path: Path) -> None:
    place = make_place(storage={"secret": "absent"})
    place.apply("v1", "ServiceAccount", "ann")
    resources = "--resource=jobs.batch,pods,pods/log,events,configmaps"
    place.kubectl("create", "role", "runner", "--verb=create,get,list,watch,delete", resources)
    place.kubectl("create", "rolebinding", "runner", "--role=runner", f"--serviceaccount={place.namespace}:ann")
    mine = tmp_path / "kubeconfig"
    mine.write_text(place.configuration("ann"))
    answer = place.ask_doctor(KUBECONFIG=str(mine))
    (problem,) = answer.problems
    assert problem["name"] == "pod"
    assert 'secret "absent" not found' in problem["found"]
    assert "create secret generic absent" in problem["action"]
    assert answer.named("secret absent")["status"] == "warning"
    assert place.jobs() == []


def test_a_right_that_runs_lack_is_named(make_place: MakePlace) -> None:
    place = make_place()
    role = place.kubectl("get", "role", "-o", "name").strip()
    place.kubectl("patch", role, "--type=json", '-p=[{"op": "remove", "path": "/rules/0"}]')
    (problem,) = place.ask_doctor("--no-pod").problems
    assert problem["name"] == "rights of runs"
    assert "may not create, get, list, watch, patch, delete pytorchjobs.kubeflow.org" in problem["found"]
    assert f"--serviceaccount={place.namespace}:{place.settings.pipeline_service_account}" in problem["action"]


def test_servers_that_do_not_answer_are_found_by_the_pod(make_place: MakePlace) -> None:
    place = make_place(tracking_uri="http://absent.nowhere.svc.cluster.local:5000", gateway_uri="http://127.0.0.1:9")
    tracking, gateway = place.ask_doctor().problems
    assert (tracking["name"], gateway["name"]) == ("tracking server", "gateway")
    assert tracking["action"].startswith("kubectl -n nowhere rollout status deployment/absent")


def test_no_installation_is_told_with_the_command_that_installs(empty_namespace: str) -> None:
    answer = ask_doctor(empty_namespace)
    (problem,) = answer.problems
    assert problem["found"] == f"namespace {empty_namespace!r} has no installation of Windlass"
    assert problem["action"].startswith(f"helm -n {empty_namespace} install windlass charts/windlass")


def test_credentials_that_are_refused_are_told(empty_namespace: str, tmp_path: Path) -> None:
    mine = tmp_path / "kubeconfig"
    mine.write_text(configuration("nonsense"))
    (problem,) = ask_doctor(empty_namespace, KUBECONFIG=str(mine)).findings
    assert problem["found"] == "the credentials of KUBECONFIG are refused: Unauthorized"


def test_ctrl_c_takes_the_pod_away(make_place: MakePlace) -> None:
    place = make_place(image="localhost/windlass:absent")
    with subprocess.Popen(doctor_command(place.namespace), stderr=subprocess.PIPE, text=True) as process:
        while not place.jobs():
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 75
    assert place.jobs() == []
