"""`windlass predict`: every row of a file through a model version."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

from windlass.progress import track
from windlass.variants import GOLDEN_NAME, GoldenExamples, Signature, Variant, golden, open_variant
from windlass.variants.engines import Device, Engine, check_device, load_engine
from windlass_cli.console import duration, print_json, stdout
from windlass_cli.display import open_display
from windlass_cli.open_registry import open_registry
from windlass_cli.rows_file import read_inputs
from windlass_cli.scores_file import check_output, open_scores, scores_table

_MAX_BATCH_ROWS = 4096
_MAX_BATCH_VALUES = 1 << 18


def predict_file(
    spec: str,
    rows: Path,
    output: Path,
    *,
    force: bool,
    device: Device,
    root: str,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Score a file with a version, which first has to give its own golden answers.

    Raises:
        DeviceUnavailableError: this machine does not run models on the device.
        RegistryError: there is no such model, version or alias.
        RowsFileError: a row does not fit; the output is not written.
        OutputError: the output cannot be written there.
    """
    check_output(output, force=force)
    started_s = time.monotonic()
    with (
        open_display(as_json=as_json),
        _open_version(spec, root, tracking_uri, device) as (name, version, variant, engine),
    ):
        count = _score(rows, output, variant, engine)
    seconds = time.monotonic() - started_s
    if as_json:
        document = {"model": name, "version": version, "rows": count, "output": str(output), "seconds": seconds}
        print_json(document)
    else:
        stdout().print(
            f"{count:,} rows scored with {name} version {version} in {duration(seconds)}: {output}", markup=False
        )


@contextmanager
def _open_version(
    spec: str, root: str, tracking_uri: str | None, device: Device
) -> Iterator[tuple[str, int, Variant, Engine]]:
    check_device(device)
    registry = open_registry(root, tracking_uri)
    found = registry.resolve(spec)
    with tempfile.TemporaryDirectory(prefix="windlass-predict-") as temporary:
        directory = registry.download(found.name, found.version, Path(temporary) / "version")
        variant = open_variant(directory)
        engine = load_engine(directory, variant, threads=os.cpu_count() or 1, device=device)
        golden.check(engine, GoldenExamples.read(directory / GOLDEN_NAME))
        yield found.name, found.version, variant, engine


def _score(rows: Path, output: Path, variant: Variant, engine: Engine) -> int:
    """The number of rows that were scored. One row at a time if rows change each other's answers."""
    signature = variant.signature
    batch_rows = _batch_rows(signature) if variant.batch_invariant else 1
    size_mb = rows.stat().st_size / 1e6 if rows.is_file() else 0.0
    count = 0
    with open_scores(output, signature) as scores, track("scoring", total=size_mb, unit="MB") as bar:

        def at(position: int) -> None:
            bar.update(position / 1e6, rows=count)

        for inputs in read_inputs(rows, signature, batch_rows, at):
            outputs = engine.predict(inputs)
            scores.write(scores_table(signature, outputs))
            count += len(next(iter(outputs.values())))
    return count


def _batch_rows(signature: Signature) -> int:
    width = prod(signature.image_shape) if signature.form == "images" else len(signature.columns or ())
    return max(1, min(_MAX_BATCH_ROWS, _MAX_BATCH_VALUES // width))
