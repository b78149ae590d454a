"""What is removed from a root, and what stays because something needs it."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from windlass.errors import InvalidInputError
from windlass.recipe.load import check_recipe
from windlass.recipe.needed import AliasesUnknownError
from windlass.recipe.pruning import PrunePlan, plan_pruning, remove_unneeded
from windlass.recipe.resolve import resolve
from windlass.recipe.runs import RunRecord, StepResult, finish_run, hold_run, list_runs, new_run, record_step
from windlass.registry import promote, rollback
from windlass.storage import Reference, S3Settings, Workspace

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

DAY_S = 86400.0
NOTHING = "sqlite:////nonexistent/mlflow.db"
WINE: dict[str, Any] = {"name": "wine", "task": "tabular-classification", "data": {"source": "sklearn:wine"}}


@pytest.fixture(scope="module")
def object_store() -> Iterator[S3Settings]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Settings(endpoint_url=f"http://{host}:{port}", region="us-east-1", retry_for_s=10)
    server.stop()


on_both_roots = pytest.mark.parametrize(
    "workspace", ["local", pytest.param("s3", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def workspace(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A local root, or one on an object store."""
    if getattr(request, "param", "local") == "local":
        return Workspace(tmp_path / "root")
    settings = request.getfixturevalue("object_store")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test-test")
    client = boto3.session.Session().client("s3", region_name="us-east-1", endpoint_url=settings.endpoint_url)
    bucket = f"bucket-{time.time_ns()}"
    client.create_bucket(Bucket=bucket)
    return Workspace(f"s3://{bucket}/team", tmp_path / "here", s3=settings)


class Maker:
    """Makes runs whose steps publish documents that refer to each other as the real ones do."""

    def __init__(self, workspace: Workspace, base: Path) -> None:
        self.workspace, self._resolved = workspace, resolve(check_recipe(WINE, "recipe.yaml"), base)

    def publish(self, step: str, key: str, name: str, *referred: Reference, **more: Any) -> Reference:
        document = {**more, "refers_to": [reference.model_dump() for reference in referred]}
        made, _ = self.workspace.once(step, key, lambda output: _write(output / name, document))
        return made

    def open(self, *, days_ago: float = 0) -> str:
        run_id = new_run(self.workspace, self._resolved)
        self._change(run_id, started=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days_ago))
        return run_id

    def run(self, key: str, *, days_ago: float = 0, mlflow_run: str | None = None, uri: str = NOTHING) -> str:
        """A run that has succeeded; all runs share the prepared data."""
        run_id = self.open(days_ago=days_ago)
        dataset = self.publish("prepare", "data", "dataset.json")
        model = self.publish("train", key, "model.json", dataset)
        variants = [self.publish("variants", f"{key}-{name}", "variant.json", model) for name in ("fp32", "int8")]
        for variant in variants:
            self.publish("measurements", f"{key}-{variant.uri[-4:]}", "measurement.json", variant, of=variant.uri)
        steps = {
            "prepare": dataset,
            "train": model,
            "compress": self.publish("compress", key, "candidates.json", *variants),
            "evaluate": self.publish("evaluate", key, "evaluation.json", *variants),
        }
        if mlflow_run is not None:
            registration = {"model": "digits", "version": 1, "alias": "champion", "run_id": mlflow_run}
            registration |= {"format_version": 1, "tracking_uri": uri, "run_key": "k"}
            steps["register"], _ = self.workspace.once(
                "register", key, lambda output: _write(output / "registration.json", registration)
            )
        for step, reference in steps.items():
            self.record(run_id, step, reference)
        finish_run(self.workspace, run_id, 0)
        if days_ago:
            then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days_ago)
            self._change(run_id, finished=then + datetime.timedelta(minutes=1))
        return run_id

    def record(self, run_id: str, step: str, reference: Reference) -> None:
        key = reference.uri.rpartition("/")[2]
        result = StepResult(step=step, key=key, reference=reference, cached=False, summary={})
        record_step(self.workspace, run_id, result)

    def _change(self, run_id: str, **changes: Any) -> None:
        name = f"runs/{run_id}/run.json"
        record = RunRecord.model_validate_json(self.workspace.read_document(name) or b"")
        self.workspace.write_document(name, record.model_copy(update=changes).model_dump_json().encode())


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document))


@pytest.fixture
def maker(workspace: Workspace, tmp_path: Path) -> Maker:
    return Maker(workspace, tmp_path)


def plan(workspace: Workspace, *, days_later: float = 30, **rules: Any) -> PrunePlan:
    """As if so many days had passed since everything was made."""
    arguments = {"tracking_uri": NOTHING, "keep_runs": 1, **rules}
    return plan_pruning(workspace, now_s=time.time() + days_later * DAY_S, **arguments)


def names(plan: PrunePlan, kind: str) -> list[str]:
    return sorted(item.name.rpartition("/")[2] for item in plan.items if item.kind == kind)


def prune(workspace: Workspace, plan: PrunePlan) -> list[str]:
    return [item.name for item in remove_unneeded(workspace, plan)]


def published(workspace: Workspace, step: str) -> list[str]:
    found = {file.name.split("/")[2] for file in workspace.list_files(f"steps/{step}/")}
    return sorted(key for key in found if workspace.find(step, key) is not None)


@on_both_roots
def test_the_newest_runs_stay_with_all_that_they_refer_to(workspace: Workspace, maker: Maker) -> None:
    old, new = maker.run("old", days_ago=2), maker.run("new")
    found = plan(workspace)
    assert [(kept.run_id, kept.why) for kept in found.kept_runs] == [(new, "one of the newest 1")]
    assert names(found, "runs") == [old]
    assert names(found, "train") == ["old"]
    assert names(found, "variants") == ["old-fp32", "old-int8"]
    assert names(found, "measurements") == ["old-fp32", "old-int8"]
    assert names(found, "prepare") == [], "the new run has the same data"
    assert len(prune(workspace, found)) == len(found.items)
    assert [record.run_id for record in list_runs(workspace)] == [new]
    assert published(workspace, "variants") == ["new-fp32", "new-int8"]
    assert published(workspace, "measurements") == ["new-fp32", "new-int8"], "a rerun measures nothing again"
    assert published(workspace, "prepare") == ["data"]
    assert plan(workspace).items == (), "nothing is left over"


def test_sizes_are_those_of_the_files(workspace: Workspace, maker: Maker) -> None:
    maker.run("old", days_ago=2)
    before = sum(file.size_bytes for first in ("steps", "runs") for file in workspace.list_files(f"{first}/"))
    found = plan(workspace, keep_runs=0)
    assert found.size_bytes == before
    assert found.kept_bytes == 0


def test_what_is_younger_than_asked_stays(workspace: Workspace, maker: Maker) -> None:
    maker.run("old", days_ago=50)
    young = maker.run("young", days_ago=5)
    found = plan(workspace, days_later=1, keep_runs=0, older_than_s=30 * DAY_S)
    assert [(kept.run_id, kept.why) for kept in found.kept_runs] == [(young, "young enough")]
    assert names(found, "train") == [], "its files are a day old"


def test_what_was_made_within_the_hour_stays(workspace: Workspace, maker: Maker) -> None:
    maker.publish("variants", "of nobody", "variant.json")
    assert plan(workspace, days_later=0.5 / 24).items == ()
    assert names(plan(workspace, days_later=2 / 24), "variants") == ["of nobody"]


@on_both_roots
def test_a_run_in_progress_keeps_what_it_refers_to_and_what_it_may_have_taken_since(
    workspace: Workspace, maker: Maker, tmp_path: Path
) -> None:
    maker.run("done", days_ago=2)
    if workspace.uri == str(workspace.local):
        age(tmp_path / "root", days=3)
    running = maker.open()
    with hold_run(workspace, running):
        maker.record(running, "prepare", maker.publish("prepare", "data", "dataset.json"))
        maker.publish("train", "new", "model.json")
        found = plan(workspace, keep_runs=0)
        assert [(kept.run_id, kept.why) for kept in found.kept_runs] == [(running, "in progress")]
        assert names(found, "prepare") == []
        assert "new" not in names(found, "train")
        if workspace.uri == str(workspace.local):
            assert names(found, "train") == ["done"]


def test_what_was_made_while_a_kept_run_was_at_work_stays_though_nothing_names_it(maker: Maker) -> None:
    workspace = maker.workspace
    maker.publish("networks", "of nobody", "model.json")
    run_id = maker.open()
    maker.publish("networks", "of the run", "model.json")
    finish_run(workspace, run_id, 0)
    assert names(plan(workspace), "networks") == ["of nobody"]
    assert names(plan(workspace, keep_runs=0), "networks") == ["of nobody", "of the run"]


def age(root: Path, *, days: float) -> None:
    """Let the files of a local root be so old."""
    then_s = time.time() - days * DAY_S
    for path in root.rglob("*"):
        os.utime(path, (then_s, then_s))


def test_an_interrupted_run_that_is_kept_keeps_its_unfinished_work(maker: Maker, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "mine")
    maker = Maker(workspace, tmp_path)
    (workspace.work_directory("train", "forgotten") / "checkpoint").write_bytes(b"x" * 100)
    age(tmp_path / "mine", days=20)
    run_id = maker.open(days_ago=10)
    (workspace.work_directory("train", "going on") / "checkpoint").write_bytes(b"x" * 100)
    finish_run(workspace, run_id, 75)
    found = plan(workspace, days_later=0)
    assert names(found, "unfinished work") == ["forgotten"]
    assert names(plan(workspace, days_later=8), "unfinished work") == ["forgotten"]
    assert names(plan(workspace, days_later=8, keep_runs=0), "unfinished work") == ["forgotten", "going on"]
    assert names(plan(workspace, days_later=6, keep_runs=0), "unfinished work") == ["forgotten"], "may be continued"


@on_both_roots
def test_inputs_stay_while_a_run_names_them_and_a_day_before_one_can(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("class Net: ...")
    reference = workspace.put_input(tmp_path / "net.py")
    digest = reference.uri.rpartition("/")[2]
    assert plan(workspace, days_later=0.9).items == ()
    assert names(plan(workspace), "inputs") == [digest]
    resolved = resolve(check_recipe({**WINE, "model": {"architecture": "net.py:Net"}}, "recipe.yaml"), tmp_path)
    assert resolved.module is not None
    module = resolved.module.model_copy(update={"reference": reference})
    finish_run(workspace, new_run(workspace, resolved.model_copy(update={"module": module})), 0)
    assert names(plan(workspace), "inputs") == []


@on_both_roots
def test_what_is_taken_between_the_plan_and_the_removal_stays(workspace: Workspace, maker: Maker) -> None:
    maker.run("old", days_ago=2)
    found = plan(workspace, keep_runs=0)
    time.sleep(1.1)  # an object store keeps whole seconds
    maker.publish("train", "old", "model.json")
    prune(workspace, found)
    assert published(workspace, "train") == ["old"]
    assert published(workspace, "variants") == []


@on_both_roots
def test_a_pruning_that_is_stopped_leaves_whole_things_and_the_next_goes_on(workspace: Workspace, maker: Maker) -> None:
    maker.run("old", days_ago=2)
    new = maker.run("new")
    time.sleep(1.1)  # an object store keeps whole seconds
    removal = remove_unneeded(workspace, plan(workspace))
    for _ in range(3):
        next(removal)
    removal.close()
    assert [record.run_id for record in list_runs(workspace)] == [new]
    for step in ("train", "variants", "measurements"):
        for key in published(workspace, step):
            found = workspace.find(step, key)
            assert found is not None
            workspace.fetch(found)
    prune(workspace, plan(workspace))
    assert published(workspace, "train") == ["new"]


def test_runs_go_before_what_they_refer_to_and_results_before_what_they_were_made_from(
    workspace: Workspace, maker: Maker
) -> None:
    maker.run("old", days_ago=2)
    kinds = list(dict.fromkeys(item.kind for item in plan(workspace, keep_runs=0).items))
    assert kinds == ["runs", "evaluate", "compress", "measurements", "variants", "train", "prepare"]


def test_how_often_a_test_split_was_read_is_never_forgotten(workspace: Workspace) -> None:
    workspace.write_document("test-reads/data/decision.json", b"{}")
    prune(workspace, plan(workspace, days_later=1000, keep_runs=0))
    assert workspace.list_documents("test-reads/") == ["test-reads/data/decision.json"]


def test_a_run_that_an_older_version_wrote_stops_the_pruning(workspace: Workspace, maker: Maker) -> None:
    run_id = maker.run("old")
    workspace.write_document(f"runs/{run_id}/run.json", b'{"format_version": 99}')
    with pytest.raises(InvalidInputError, match=rf"runs/{run_id}/run\.json is of another version of windlass; remove"):
        plan(workspace)


def test_runs_of_aliased_versions_stay_also_those_of_a_promoted_loser(
    workspace: Workspace, maker: Maker, sqlite: str, tmp_path: Path, support: Any
) -> None:
    first = support.register_family(sqlite, tmp_path / "a", ("fp32", "int8"), "int8")
    second = support.register_family(
        sqlite, tmp_path / "b", ("fp32", "int8"), "fp32", run_key="b" * 64, run_id_tag="digits-2"
    )
    runs = [maker.run(name, days_ago=9, mlflow_run=each.run_id, uri=sqlite) for name, each in
            (("one", first), ("two", second))]  # fmt: skip
    maker.run("three", days_ago=9)
    found = plan(workspace, tracking_uri=sqlite, keep_runs=0)
    assert [(kept.run_id, kept.why) for kept in found.kept_runs] == [(runs[1], "digits@champion comes from it")]
    assert names(found, "train") == ["one", "three"]
    rollback(sqlite, "digits")
    assert names(plan(workspace, tracking_uri=sqlite, keep_runs=0), "train") == ["three", "two"]
    promote(sqlite, "digits", "int8", version=2, alias="shadow")
    assert names(plan(workspace, tracking_uri=sqlite, keep_runs=0), "train") == ["three", "two"], "it is version 1"


def test_the_registry_that_a_run_names_is_asked_though_another_is_given(
    workspace: Workspace, maker: Maker, sqlite: str, tmp_path: Path, support: Any
) -> None:
    registration = support.register_family(sqlite, tmp_path / "a", ("fp32", "int8"), "int8")
    run_id = maker.run("one", mlflow_run=registration.run_id, uri=sqlite)
    assert [kept.run_id for kept in plan(workspace, keep_runs=0).kept_runs] == [run_id]


def test_a_server_that_a_run_knows_by_another_name_is_told_by_the_run_that_it_has(
    workspace: Workspace, maker: Maker, sqlite: str, tmp_path: Path, support: Any
) -> None:
    registration = support.register_family(sqlite, tmp_path / "a", ("fp32", "int8"), "int8")
    run_id = maker.run("one", mlflow_run=registration.run_id, uri="http://windlass-mlflow.team-a.svc:5000")
    found = plan(workspace, tracking_uri=sqlite, keep_runs=0)
    assert [kept.run_id for kept in found.kept_runs] == [run_id]


def test_where_a_registry_does_not_answer_nothing_is_removed(
    workspace: Workspace, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass.registry.tracking._FIRST_PAUSE_S", 0.01)
    maker.run("one", mlflow_run="0" * 32, uri="http://127.0.0.1:9")
    with pytest.raises(
        AliasesUnknownError,
        match=r"nothing is removed, for what the aliases of http://127.0.0.1:9 need cannot be told: .*--tracking-uri",
    ):
        plan(workspace)
