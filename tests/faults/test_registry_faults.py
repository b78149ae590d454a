"""Faults 13, 15 and the registry's part of 16: a reply that is lost, a tracking server that is killed."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from windlass.registry import MetricsMirror, Registry, RegistryUnreachableError
from windlass.registry.config import RegisterConfig
from windlass.registry.tracking import connect

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def test_a_lost_reply_to_create_version_leaves_one_version(server: Any, variant: Path, support: Any) -> None:
    cutter = support.ReplyCutter(server.port, b"/model-versions/create", cuts=1)
    registration = support.register_variant(cutter.url, variant, recipe_name="lost")
    cutter.close()
    # the version was made by the request whose reply was lost; nobody asked for it a second time
    assert cutter.seen == 1
    assert [info.version for info in Registry(server.url).versions("lost")] == [1]
    assert (registration.version, registration.alias) == (1, "champion")


def test_a_run_that_ends_between_version_and_alias_is_completed_by_its_rerun(
    server: Any, variant: Path, support: Any
) -> None:
    cutter = support.ReplyCutter(server.port, b"/model-versions/search", cuts=99)
    with pytest.raises(RegistryUnreachableError, match="run the same command again"):
        support.register_variant(cutter.url, variant, recipe_name="ended")
    cutter.close()
    cutter = support.ReplyCutter(server.port, b"/registered-models/alias", cuts=99)
    with pytest.raises(RegistryUnreachableError, match="run the same command again"):
        support.register_variant(cutter.url, variant, recipe_name="ended")
    cutter.close()
    registration = support.register_variant(server.url, variant, recipe_name="ended")
    assert [info.version for info in Registry(server.url).versions("ended")] == [1]
    assert Registry(server.url).aliases("ended") == {"champion": registration.version}


def test_four_clients_that_set_a_new_alias_at_once_all_succeed(server: Any, variant: Path, support: Any) -> None:
    keys = ["a" * 64, "b" * 64, "c" * 64, "d" * 64]
    for key in keys:
        support.register_variant(server.url, variant, recipe_name="race", run_key=key, gate_open=False)
    errors: list[BaseException] = []

    def set_alias(key: str) -> None:
        try:
            config = RegisterConfig(alias="fresh")
            support.register_variant(server.url, variant, recipe_name="race", run_key=key, config=config)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=set_alias, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Registry(server.url).aliases("race")["fresh"] in (1, 2, 3, 4)


def write_step(path: Path, step: int) -> None:
    with path.open("a") as file:
        file.write(json.dumps({"step": step, "loss": 1 / (1 + step), "time": 1_700_000_000 + step}) + "\n")


def logged_steps(url: str, run_tag: str, metric: str) -> list[int]:
    client = connect(url)
    experiment = client.get_experiment_by_name("digits")
    (run,) = client.search_runs([experiment.experiment_id], filter_string=f"tags.`windlass.run_id` = '{run_tag}'")
    return sorted(point.step for point in client.get_metric_history(run.info.run_id, metric))


def wait_for_step(url: str, run_tag: str, step: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        client = connect(url)
        found = client.get_experiment_by_name("digits")
        runs = client.search_runs([found.experiment_id], f"tags.`windlass.run_id` = '{run_tag}'") if found else []
        if runs and step in {point.step for point in client.get_metric_history(runs[0].info.run_id, "step/loss")}:
            return
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_tracking_server_killed_in_mid_run_loses_and_doubles_nothing(tmp_path: Path, support: Any) -> None:
    server = support.MlflowServer(tmp_path)
    server.run()
    history, steps = tmp_path / "history.jsonl", tmp_path / "steps.jsonl"
    try:
        with MetricsMirror(
            history, steps, server.url, experiment="digits", run_id_tag="killed", flush_timeout_s=60
        ) as mirror:
            for step in range(50):
                write_step(steps, step)
            wait_for_step(server.url, "killed", 49)
            server.kill()
            started_s = time.monotonic()
            for step in range(50, 150):
                write_step(steps, step)
            assert time.monotonic() - started_s < 2, "writing metrics waited for the dead server"
            time.sleep(2)
            server.run()
            for step in range(150, 200):
                write_step(steps, step)
            history.write_text(json.dumps({"epoch": 0, "step": 199, "train_loss": 0.5, "quality": {"f1": 1}}) + "\n")
            assert mirror.flush()
        assert logged_steps(server.url, "killed", "step/loss") == list(range(200))
        assert logged_steps(server.url, "killed", "quality/f1") == [0]
    finally:
        server.kill()


def test_what_the_mirror_could_not_send_is_sent_by_registration_once(
    server: Any, variant: Path, support: Any, tmp_path: Path
) -> None:
    history, steps = tmp_path / "history.jsonl", tmp_path / "steps.jsonl"
    history.write_text(json.dumps({"epoch": 0, "train_loss": 0.5}) + "\n")
    cutter = support.ReplyCutter(server.port, b"/runs/log-batch", cuts=99)
    with MetricsMirror(history, steps, cutter.url, experiment="digits", run_id_tag="rest", flush_timeout_s=1) as mirror:
        for step in range(30):
            write_step(steps, step)
        deadline = time.monotonic() + 60
        while cutter.seen == 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        started_s = time.monotonic()
        assert not mirror.flush()
        assert time.monotonic() - started_s < 5
    cutter.close()
    support.register_variant(server.url, variant, run_id_tag="rest", history=history)
    assert logged_steps(server.url, "rest", "step/loss") == list(range(30))
    assert logged_steps(server.url, "rest", "train_loss") == [0]
