"""What `helm test` runs in an image of the components: the way of a version, from the bucket to an answer.

It leaves nothing behind but a deleted experiment, which MLflow keeps until `mlflow gc`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper, numpy_helper

from windlass.cluster.settings import ClusterSettings
from windlass.registry import FamilyMember, register
from windlass.registry.config import RegisterConfig
from windlass.registry.documents import Registration
from windlass.registry.tracking import connect
from windlass.storage import Reference, Workspace
from windlass.variants import (
    GOLDEN_NAME,
    VARIANT_NAME,
    ColumnSpec,
    GoldenExamples,
    Origin,
    Signature,
    TensorSpec,
    Variant,
)

MODEL = "windlass-helm-test"
ALIAS = "helm-test"
WAIT_S = 90.0


def main() -> int:
    settings = ClusterSettings.from_environment()
    if settings is None:
        raise SystemExit("WINDLASS_CLUSTER_SETTINGS is not set")
    key = uuid.uuid4().hex
    say(f"bucket: wrote and read {check_bucket(settings.storage.root, key)}")
    client = connect(settings.tracking_uri)
    registration = None
    try:
        registration = register_version(settings.tracking_uri, key)
        say(f"tracking: logged run {registration.run_id}")
        say(f"registry: {MODEL} version {registration.version} is {ALIAS}")
        if os.environ.get("WINDLASS_TEST_GATEWAY") == "true":
            say(f"gateway: answered {ask_gateway(settings.gateway_uri, registration.version)}")
        else:
            say("gateway: not asked, for `gateway.models` names the models that it serves")
    finally:
        clean_up(client, settings.tracking_uri, registration)
    return 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def check_bucket(root: str, key: str) -> str:
    """Write a document below the root of the results, read it, and delete it."""
    workspace = Workspace(root, Path(tempfile.gettempdir()) / "windlass")
    name = f"helm-test/{key}.txt"
    workspace.write_document(name, key.encode())
    try:
        body = workspace.read_document(name)
    finally:
        workspace.delete_document(name)
    if body != key.encode():
        raise SystemExit(f"{workspace.uri}/{name} holds something else than what was written")
    return f"{workspace.uri}/{name}"


def register_version(tracking_uri: str, key: str) -> Registration:
    """Log a run with a model that doubles its only column, make it a version, and move the alias to it."""
    with tempfile.TemporaryDirectory() as folder:
        variant, report = Path(folder) / "variant", Path(folder) / "report"
        write_variant(variant)
        report.mkdir()
        (report / "report.json").write_text("{}")
        measurement = Path(folder) / "measurement.json"
        measurement.write_text(json.dumps({"batch_invariant": True}))
        return register(
            RegisterConfig(model=MODEL, alias=ALIAS),
            recipe_name=MODEL,
            run_key=key,
            tracking_uri=tracking_uri,
            family=[FamilyMember(name="fp32", variant=variant, measurement=measurement, figures={"size_bytes": 1.0})],
            winner="fp32",
            report=report,
            verdict={},
            history=None,
            tags={},
            run_id_tag=key,
            gate_open=True,
        )


def write_variant(directory: Path) -> None:
    import numpy as np

    directory.mkdir()
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "weight"], ["product"]),
            helper.make_node("Squeeze", ["product", "axis"], ["value"]),
        ],
        "doubles",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["B"])],
        [
            numpy_helper.from_array(np.array([[2.0]], dtype=np.float32), "weight"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    Variant(
        name="fp32",
        task="tabular-regression",
        format="onnx",
        engine="onnxruntime",
        preprocessing="graph",
        signature=Signature(
            inputs=(TensorSpec(name="input", dtype="float32", shape=(None, 1)),),
            outputs=(TensorSpec(name="value", dtype="float32", shape=(None,)),),
            columns=(ColumnSpec(name="x", type="number"),),
        ),
        files=("model.onnx",),
        origin=Origin(model=Reference(uri="helm-test", digest="0" * 64), methods=()),
        batch_invariant=True,
    ).write(directory / VARIANT_NAME)
    answers: dict[str, list[Any]] = {"value": [6.0]}
    GoldenExamples(rows=[[3.0]], outputs=answers, uncompressed=answers, tolerance=1e-5).write(directory / GOLDEN_NAME)


def ask_gateway(gateway_uri: str, version: int) -> Any:
    """The answer of this very version; the gateway needs a moment to see it and to fetch it."""
    request = urllib.request.Request(  # noqa: S310
        f"{gateway_uri}/v1/models/{MODEL}/versions/{version}/predict",
        data=json.dumps({"rows": [[21.0]]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    end_s = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
                answer = json.loads(reply.read())
            break
        except urllib.error.HTTPError as error:
            problem = error.read().decode(errors="replace")
            if error.code not in (404, 503) or time.monotonic() > end_s:
                raise SystemExit(f"the gateway answers {error.code}: {problem}") from None
        except OSError as error:
            if time.monotonic() > end_s:
                raise SystemExit(f"the gateway at {gateway_uri} does not answer: {error}") from None
        time.sleep(1)
    if (answer["version"], answer["predictions"]) != (version, [42.0]):
        raise SystemExit(f"the gateway should answer 42 with version {version}: {answer}")
    return answer


def clean_up(client: Any, tracking_uri: str, registration: Registration | None) -> None:
    from mlflow import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        client.delete_registered_model(MODEL)
    except MlflowException as error:
        if registration is not None:
            raise
        say(f"there was no {MODEL} to delete: {error}")
    if registration is not None:
        run = client.get_run(registration.run_id).info
        repository: Any = get_artifact_repository(run.artifact_uri, tracking_uri=tracking_uri)
        repository.delete_artifacts()
        client.delete_run(run.run_id)
        client.delete_experiment(run.experiment_id)
    say("cleaned up")


if __name__ == "__main__":
    sys.exit(main())
