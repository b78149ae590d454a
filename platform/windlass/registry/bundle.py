"""A version as it lies in MLflow: one directory in the `onnx` flavor that also holds our own files."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

from windlass.storage import MANIFEST_NAME, Manifest, describe_directory
from windlass.variants.engines import SESSION_CONFIG
from windlass.variants.signature import Signature, TensorSpec
from windlass.variants.variant import GOLDEN_NAME, VARIANT_NAME, Variant

MLMODEL_NAME = "MLmodel"
MEASUREMENT_NAME = "measurement.json"
DATASET_NAME = "dataset.json"
ONNX_NAME = "model.onnx"


def write_version(
    variant_directory: Path, measurement: Path, output: Path, *, run_id: str, threads: int, dataset: Path | None = None
) -> Manifest:
    """Write the directory of a model version: what MLflow's tools load, and what ours verify.

    The files of the engine are copied byte for byte; `variant.json` gets the batch invariance that was measured.

    Args:
        variant_directory: a published variant.
        measurement: its measurement.json.
        output: an absent directory.
        run_id: the MLflow run that the version belongs to.
        threads: of the engine where MLflow serves the version.
        dataset: the dataset's dataset.json; with it the version can be measured on other data.
    """
    variant = Variant.read(variant_directory / VARIANT_NAME)
    _save_flavor(variant_directory / ONNX_NAME, output, variant.signature, run_id=run_id, threads=threads)
    # the engine's file is copied as it is: MLflow's serialization of it could differ from what was measured
    for name in (*variant.files, GOLDEN_NAME):
        target = output / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(variant_directory / name, target)
    measured = json.loads(measurement.read_bytes())
    shutil.copyfile(measurement, output / MEASUREMENT_NAME)
    if dataset is not None:
        shutil.copyfile(dataset, output / DATASET_NAME)
    variant.model_copy(update={"batch_invariant": bool(measured["batch_invariant"])}).write(output / VARIANT_NAME)
    manifest = describe_directory(output)
    manifest.write(output / MANIFEST_NAME)
    return manifest


def _save_flavor(model: Path, output: Path, signature: Signature, *, run_id: str, threads: int) -> None:
    with warnings.catch_warnings():
        # importing MLflow's flavors warns about MLflow's own type hints
        warnings.simplefilter("ignore")
        import mlflow.onnx
        import onnx
        import onnxruntime
        from mlflow.models import Model

        mlflow.onnx.save_model(
            onnx.load(model, load_external_data=False),
            output,
            mlflow_model=Model(run_id=run_id),
            signature=mlflow_signature(signature),
            pip_requirements=[f"onnx=={onnx.__version__}", f"onnxruntime=={onnxruntime.__version__}"],
            onnx_execution_providers=["CPUExecutionProvider"],
            onnx_session_options={"intra_op_num_threads": threads, "extra_session_config": SESSION_CONFIG},
            save_as_external_data=False,
        )


def mlflow_signature(signature: Signature) -> Any:
    """The same signature in MLflow's terms, in the form in which its server takes every kind of request.

    A matrix or an image stays unnamed: a named one refuses both dataframe forms. MLflow then takes the columns of a
    dataframe in the order in which they come, not by name. A table with categories is one named tensor per column; as
    MLflow's own column types its strings reach ONNX Runtime in a form that it refuses.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import Schema

    named = any(len(tensor.shape) == 1 for tensor in signature.inputs)
    return ModelSignature(
        inputs=Schema([_mlflow_tensor(tensor, named=named) for tensor in signature.inputs]),
        outputs=Schema([_mlflow_tensor(tensor, named=True) for tensor in signature.outputs]),
    )


def _mlflow_tensor(tensor: TensorSpec, *, named: bool) -> Any:
    import numpy as np
    from mlflow.types import TensorSpec as MlflowTensorSpec

    dtype = np.dtype(object if tensor.dtype == "string" else tensor.dtype)
    shape = tuple(-1 if size is None else size for size in tensor.shape)
    return MlflowTensorSpec(dtype, shape, tensor.name if named else None)
