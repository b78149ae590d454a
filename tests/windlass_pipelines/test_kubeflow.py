"""A run on Kubeflow Pipelines, from start to end, against a server that answers as the published schema says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

import kubeflow_api
from installations import installation_settings
from kubeflow_api import Frame, KubeflowServer
from windlass.cluster.settings import StorageSettings
from windlass.cluster.workflows import WorkflowPods, secret_keys
from windlass.evaluation.documents import VERDICT_NAME, Verdict
from windlass.recipe.errors import RecipeError
from windlass.recipe.runs import StepResult, finish_run, read_recipe, read_run, record_step
from windlass.storage import Workspace
from windlass_pipelines.kubeflow import KubeflowRun, check_recipe, find_record, start_run
from windlass_pipelines.kubeflow_api import (
    KubeflowApi,
    KubeflowRefusedError,
    KubeflowUnreachableError,
    NotKubeflowError,
    TokenFileError,
)
from windlass_pipelines.local import describe_problem

NAMESPACE = "team-a"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SETTINGS = installation_settings(
    namespace=NAMESPACE, storage=StorageSettings(root="s3://runs/team-a", secret="storage")
)
Events = list[dict[str, Any]]
Begin = Callable[..., KubeflowRun]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KubeflowServer]:
    for name in ("WINDLASS_KFP_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with kubeflow_api.running_server() as running:
        running.objects[PODS] = {"items": []}
        yield running


@pytest.fixture
def begin(server: KubeflowServer, workspace: Workspace, open_run: Callable[..., str]) -> Begin:
    """Starts a run of the recipe and gives what follows it."""

    def begin_run(*overrides: str, last_step: str = "prepare", outage_s: float = 5.0) -> KubeflowRun:
        run_id = open_run(*overrides)
        api = KubeflowApi(server.url, NAMESPACE, outage_s=outage_s)
        record = start_run(api, SETTINGS, workspace, run_id, last_step=last_step)
        return KubeflowRun(record, workspace, run_id, api, pods_of(server, record.pod_selector()), poll_s=0.01)

    return begin_run


def pods_of(server: KubeflowServer, selector: str) -> WorkflowPods:
    return WorkflowPods(kubernetes(server), NAMESPACE, selector)


def kubernetes(server: KubeflowServer) -> client.ApiClient:
    return client.ApiClient(client.Configuration(host=server.url))


def finish_step(run: KubeflowRun, step: str, *, exit_code: int = 0) -> None:
    """What a step's pod leaves below the root."""

    def make(output: Path) -> None:
        Verdict(
            exit_code=exit_code, sentence="", winner=None, candidates=(), test=(), test_drop=None, test_reads=0
        ).write(output / VERDICT_NAME)

    reference, _ = run.workspace.once(step, f"{step}-{exit_code}", make)
    result = StepResult(step=step, key="k", reference=reference, cached=False, seconds=2.0, summary={"rows": 10})
    record_step(run.workspace, run.run_id, result)


def fail_step(run: KubeflowRun, step: str, exit_code: int) -> None:
    details = {"type": "E", "message": "the reason", "exit_code": exit_code, "step": step}
    run.workspace.write_document(f"runs/{run.run_id}/error.json", json.dumps(details).encode())


def told(events: Events) -> list[tuple[str, str]]:
    return [(event["step"], event["status"]) for event in events if event["kind"] == "step"]


def messages(events: Events) -> str:
    return "\n".join(event["text"] for event in events if event["kind"] == "message")


def problem_of(run: KubeflowRun) -> str | None:
    exit_code = read_run(run.workspace, run.run_id).exit_code or 0
    return describe_problem(run.workspace, run.run_id, exit_code, log="", log_name="")


def test_a_run_is_followed_step_by_step_with_what_the_steps_recorded(server: KubeflowServer, begin: Begin) -> None:
    run, events = begin(last_step="train"), Events()
    server.frames = [
        Frame("PENDING"),
        Frame("RUNNING", {"prepare": "PENDING"}),
        Frame("RUNNING", {"prepare": "RUNNING"}),
        Frame("RUNNING", {"prepare": "SUCCEEDED", "train": "RUNNING"}, before=lambda: finish_step(run, "prepare")),
        Frame("SUCCEEDED", {"prepare": "SUCCEEDED"}, before=lambda: finish_step(run, "train")),
    ]
    assert run.follow(events.append) == 0
    steps = [("prepare", "started"), ("prepare", "finished"), ("train", "started"), ("train", "finished")]
    assert told(events) == steps
    (finished, _) = [event for event in events if event.get("status") == "finished"]
    assert (finished["seconds"], finished["cached"], finished["summary"]) == (2.0, False, {"rows": 10})
    record = read_run(run.workspace, run.run_id)
    assert (record.status, record.exit_code) == ("succeeded", 0)


@pytest.mark.parametrize("code", [0, 3, 4])
def test_a_run_ends_with_the_code_of_its_verdict(server: KubeflowServer, begin: Begin, code: int) -> None:
    run = begin()
    server.frames = [Frame("SUCCEEDED", {"condition-1": "SKIPPED"})]
    finish_step(run, "select", exit_code=code)
    assert run.follow(lambda _: None) == code
    assert read_run(run.workspace, run.run_id).exit_code == code


def test_a_step_that_fails_ends_the_run_with_its_own_code_and_message(server: KubeflowServer, begin: Begin) -> None:
    run, events = begin(), Events()
    failed = Frame("FAILED", {"prepare": "FAILED"}, before=lambda: fail_step(run, "prepare", 2))
    server.frames = [Frame("RUNNING", {"prepare": "RUNNING"}), failed]
    assert run.follow(events.append) == 2
    assert told(events) == [("prepare", "started"), ("prepare", "failed")]
    assert problem_of(run) == "step prepare: the reason"


def test_a_step_whose_pod_ends_without_a_word_is_named_with_what_the_server_says(
    server: KubeflowServer, begin: Begin
) -> None:
    run = begin()
    fail_step(run, "prepare", 75)  # of the pod's first life
    finish_step(run, "prepare")
    server.frames = [Frame("FAILED", {"prepare": "SUCCEEDED", "train": "FAILED"}, error="OOMKilled (exit code 137)")]
    assert run.follow(lambda _: None) == 1
    problem = problem_of(run)
    assert problem is not None
    assert problem.startswith("step train: its pod ended without a word: OOMKilled (exit code 137); its log: http://")
    assert run.record.kubeflow_id in problem


def test_of_a_step_that_was_started_again_the_newest_state_counts(server: KubeflowServer, begin: Begin) -> None:
    run, events = begin(), Events()
    again = (("prepare", "FAILED"), ("prepare", "RUNNING"))
    server.frames = [Frame("RUNNING", again), Frame("SUCCEEDED", before=lambda: finish_step(run, "prepare"))]
    assert run.follow(events.append) == 0
    assert told(events) == [("prepare", "started"), ("prepare", "finished")]


@pytest.mark.parametrize(
    "ending", [Frame("CANCELED"), Frame("FAILED", {"train": "FAILED"}, history=("RUNNING", "CANCELING", "FAILED"))]
)
def test_a_run_that_somebody_cancelled_is_interrupted(server: KubeflowServer, begin: Begin, ending: Frame) -> None:
    run = begin()
    server.frames = [Frame("RUNNING"), Frame("CANCELING"), ending]
    assert run.follow(lambda _: None) == 75
    assert read_run(run.workspace, run.run_id).status == "interrupted"


def test_cancelling_ends_the_run_there_and_deletes_only_the_training_jobs_of_its_workflow(
    server: KubeflowServer, begin: Begin
) -> None:
    run = begin()
    server.frames = [Frame("RUNNING", {"train": "RUNNING"})]
    server.on_terminate = lambda: server.frames.append(Frame("FAILED", {"train": "FAILED"}))
    owner = {"kind": "Workflow", "uid": "w1", "controller": True}
    server.objects[PODS] = {"items": [{"metadata": {"name": "p", "ownerReferences": [owner]}, "status": {}}]}
    jobs = "/apis/kubeflow.org/v1/namespaces/team-a/pytorchjobs"
    server.objects["/apis/kubeflow.org/v1"] = {"resources": [{"name": "pytorchjobs"}]}
    others = [{"kind": "Workflow", "uid": "w2"}]
    server.objects[jobs] = {
        "items": [
            {"metadata": {"name": "windlass-train-1", "ownerReferences": [owner]}},
            {"metadata": {"name": "windlass-train-2", "ownerReferences": others}},
            {"metadata": {"name": "windlass-train-3"}},
        ]
    }
    assert run.cancel() == ["windlass-train-1"]
    assert server.terminated == [run.record.kubeflow_id]
    assert server.deleted == [f"{jobs}/windlass-train-1"]
    record = read_run(run.workspace, run.run_id)
    assert (record.status, record.exit_code) == ("interrupted", 75)


def test_cancelling_what_has_ended_there_keeps_how_it_ended(server: KubeflowServer, begin: Begin) -> None:
    run = begin()
    server.frames = [Frame("SUCCEEDED")]
    assert run.cancel() == []
    assert server.terminated == []
    assert read_run(run.workspace, run.run_id).status == "succeeded"


def test_a_follower_ends_when_another_command_has_cancelled_the_run(server: KubeflowServer, begin: Begin) -> None:
    run = begin()
    cancelled = Frame("RUNNING", before=lambda: finish_run(run.workspace, run.run_id, 75))
    server.frames = [Frame("RUNNING"), cancelled]
    assert run.follow(lambda _: None) == 75


@pytest.mark.fault
def test_a_connection_that_is_cut_in_between_is_taken_up_again_and_said_once(
    server: KubeflowServer, begin: Begin
) -> None:
    run, events = begin(), Events()
    cut, away = Frame("", failure=0), Frame("", failure=503)
    server.frames = [Frame("RUNNING"), cut, cut, cut, cut, away, Frame("SUCCEEDED")]
    assert run.follow(events.append) == 0
    assert messages(events).count("does not answer, the run goes on") == 1


@pytest.mark.fault
def test_a_server_that_stays_away_ends_the_following_not_the_run(server: KubeflowServer, begin: Begin) -> None:
    run = begin(outage_s=0.2)
    server.frames = [Frame("", failure=503)]
    with pytest.raises(KubeflowUnreachableError, match="`windlass runs attach` follows it again"):
        run.follow(lambda _: None)
    assert read_run(run.workspace, run.run_id).status == "running"

    server.frames = [Frame("SUCCEEDED")]
    record = find_record(run.workspace, run.run_id)
    assert record is not None
    again = KubeflowRun(record, run.workspace, run.run_id, KubeflowApi(record.url, NAMESPACE), run.pods, poll_s=0.01)
    assert again.follow(lambda _: None) == 0


@pytest.mark.fault
def test_a_run_whose_creation_went_unanswered_is_found_and_not_started_twice(
    server: KubeflowServer, begin: Begin
) -> None:
    server.loses_created = True
    run = begin()
    assert list(server.runs) == [run.record.kubeflow_id]
    assert server.runs[run.record.kubeflow_id].display_name == run.run_id


def test_an_expired_token_is_refused_with_how_to_give_another(
    server: KubeflowServer, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "first"
    monkeypatch.setenv("WINDLASS_KFP_TOKEN", "first")
    run = begin()
    server.token = "second"
    with pytest.raises(KubeflowRefusedError, match=r"refuses to read the run \(401\): .*WINDLASS_KFP_TOKEN") as refused:
        run.follow(lambda _: None)
    assert refused.value.status == 401


def test_a_missing_right_is_named_and_leaves_nothing_behind(
    server: KubeflowServer, begin: Begin, workspace: Workspace
) -> None:
    server.is_forbidden = True
    with pytest.raises(KubeflowRefusedError, match=r"to make an experiment \(403\): PermissionDenied"):
        begin()
    assert server.runs == {}


def test_a_token_file_is_read_again_for_each_request(
    server: KubeflowServer, begin: Begin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    server.token = "first"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    run = begin()

    def renew() -> None:
        token.write_text("second\n")
        server.token = "second"

    server.frames = [Frame("RUNNING", before=renew), Frame("SUCCEEDED")]
    assert run.follow(lambda _: None) == 0


def test_a_token_file_that_is_not_there_is_told_before_anything_is_asked(
    server: KubeflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", "/nowhere/token")
    with pytest.raises(TokenFileError, match="/nowhere/token: No such file"):
        KubeflowApi(server.url, NAMESPACE)
    assert server.requests == []


@pytest.mark.parametrize("multi_user", [True, False])
def test_the_namespace_goes_to_a_server_of_several_users_only(
    server: KubeflowServer, begin: Begin, multi_user: bool
) -> None:
    server.multi_user = multi_user
    begin()
    assert [experiment.namespace for experiment in server.experiments] == [NAMESPACE if multi_user else None]


def test_runs_of_one_recipe_share_an_experiment_and_their_parameters_name_the_run(
    server: KubeflowServer, begin: Begin
) -> None:
    runs = [begin(), begin()]
    assert [experiment.display_name for experiment in server.experiments] == ["wine"]
    for run in runs:
        parameters = server.runs[run.record.kubeflow_id].runtime_config.parameters
        assert parameters == {"root": run.workspace.uri, "run_id": run.run_id}


def test_a_page_to_log_in_is_not_taken_for_the_api(server: KubeflowServer, begin: Begin) -> None:
    server.is_login_page = True
    with pytest.raises(NotKubeflowError, match="give --kfp the address below which /apis/v2beta1 lies"):
        begin()


@pytest.mark.parametrize("url", ["kubeflow.example.org", "ftp://kubeflow.example.org"])
def test_an_address_without_http_is_refused(url: str) -> None:
    with pytest.raises(NotKubeflowError, match=url):
        KubeflowApi(url, NAMESPACE)


def test_nothing_there_is_told_at_once() -> None:
    with pytest.raises(KubeflowUnreachableError, match="does not answer"):
        KubeflowApi("http://127.0.0.1:9", NAMESPACE)


def test_why_pods_wait_is_said_once(server: KubeflowServer, begin: Begin) -> None:
    run, events = begin(), Events()
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}
    status = {"phase": "Pending", "containerStatuses": [{"name": "main", "image": "absent:1", "state": state}]}
    server.objects[PODS] = {"items": [{"metadata": {"name": "p1"}, "status": status}]}
    server.frames = [Frame("RUNNING") for _ in range(12)] + [Frame("SUCCEEDED")]
    assert run.follow(events.append) == 0
    assert messages(events) == "pod p1 waits: image absent:1 cannot be pulled: Back-off"


def test_who_may_not_look_at_pods_still_follows_the_run(server: KubeflowServer, begin: Begin) -> None:
    run, events = begin(), Events()
    del server.objects[PODS]
    server.frames = [Frame("RUNNING") for _ in range(12)] + [Frame("SUCCEEDED")]
    assert run.follow(events.append) == 0
    assert messages(events).count("why pods wait cannot be told") == 1


def test_a_priority_class_is_refused_by_name(workspace: Workspace, open_run: Callable[..., str]) -> None:
    recipe = read_recipe(workspace, open_run("resources.cluster.priority_class=high")).recipe
    with pytest.raises(
        RecipeError, match=r"resources\.cluster\.priority_class: high: Kubeflow Pipelines cannot set it"
    ):
        check_recipe(recipe)


def test_the_keys_of_a_secret_are_read_without_its_values(server: KubeflowServer) -> None:
    server.objects[f"/api/v1/namespaces/{NAMESPACE}/secrets/database"] = {"data": {"USER": "eA==", "PASSWORD": "eQ=="}}
    assert secret_keys(kubernetes(server), NAMESPACE, "database") == ("PASSWORD", "USER")
    assert secret_keys(kubernetes(server), NAMESPACE, "absent") is None
