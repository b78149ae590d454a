"""`windlass evaluate`: a registered version measured on other data."""

from __future__ import annotations

import shlex
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from windlass.compression.documents import Candidates
from windlass.data.description import DATASET_NAME, DatasetDescription
from windlass.data.other_rows import SPLIT, prepare_other_rows
from windlass.data.sources import resolve_source
from windlass.errors import InvalidInputError
from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.cost import priced
from windlass.evaluation.documents import (
    MEASUREMENT_NAME,
    REPORT_HTML_NAME,
    CandidateVerdict,
    Evaluation,
    Interval,
    Measurement,
    TestResult,
    Verdict,
)
from windlass.evaluation.measure import measure
from windlass.evaluation.report import write_report
from windlass.recipe.steps import SERVING_MODULES
from windlass.storage import MANIFEST_NAME, Reference, digest_file
from windlass.variants import GOLDEN_NAME, GoldenExamples, Variant, golden, open_variant
from windlass.variants.config import ServeConfig
from windlass.variants.engines import Device, check_device, load_engine
from windlass_cli.console import duration, print_json, stdout, table
from windlass_cli.display import open_display
from windlass_cli.open_registry import open_registry

_MEMORY_BYTES = 2 * 10**9


class NotComparableError(InvalidInputError):
    """A version does not say in what form its data came."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"{name} version {version} came without its dataset.json, so other data cannot be brought into its form; "
            "run its recipe again, which registers a version that can be evaluated"
        )
        self.name, self.version = name, version


class OutputExistsError(InvalidInputError):
    """Results would be written over what is there."""

    def __init__(self, output: Path) -> None:
        super().__init__(f"{output} exists; name another folder with --output, or remove it")
        self.output = output


@dataclass(frozen=True)
class _Version:
    """A downloaded version that gives its own golden answers."""

    name: str
    number: int
    directory: Path
    variant: Variant
    dataset: DatasetDescription
    registered: Measurement
    """What was measured when it was made."""


def evaluate_version(
    spec: str,
    data: str,
    *,
    output: Path | None,
    bad_rows: str,
    config: EvaluateConfig,
    serve: ServeConfig,
    root: str,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Measure a version on the rows of `data` and write measurement.json, report.json and report.html.

    Raises:
        DeviceUnavailableError: this machine does not run models on `serve.device`.
        RegistryError: there is no such model, version or alias.
        NotComparableError: the version does not say in what form its data came.
        DataError: the data do not have the form that the version was trained on.
        OutputExistsError: nothing was written.
    """
    started_s = time.monotonic()
    with (
        open_display(as_json=as_json),
        tempfile.TemporaryDirectory(prefix="windlass-evaluate-") as temporary,
    ):
        check_device(serve.device)
        version = _open_version(spec, root, tracking_uri, Path(temporary), serve.device)
        output = output or Path(f"{version.name}-{version.number}-on-{Path(data).stem or 'data'}")
        if output.exists():
            raise OutputExistsError(output)
        bundle = Path(temporary) / "bundle"
        bundle.mkdir()
        prepare_other_rows(
            version.dataset,
            source=resolve_source(data, Path.cwd()),
            bad_rows=bad_rows,
            output=bundle,
            memory_limit_bytes=_MEMORY_BYTES,
            threads=serve.threads,
        )
        output.mkdir(parents=True)
        measurement = measure(
            version.variant.name,
            variant=version.directory,
            reference=Reference(
                uri=f"models:/{version.name}/{version.number}", digest=digest_file(version.directory / MANIFEST_NAME)
            ),
            dataset=bundle,
            output=output,
            task=version.variant.task,
            config=config,
            serve=serve,
            split=SPLIT,
            preload=SERVING_MODULES,
        )
        measurement = priced(measurement, config)
        _write_report(output, version, data, measurement, bundle)
    _show(output, version, measurement, time.monotonic() - started_s, as_json=as_json)


def _open_version(spec: str, root: str, tracking_uri: str | None, temporary: Path, device: Device) -> _Version:
    registry = open_registry(root, tracking_uri)
    found = registry.resolve(spec)
    directory = registry.download(found.name, found.version, temporary / "version")
    variant = open_variant(directory)
    engine = load_engine(directory, variant, threads=1, device=device)
    golden.check(engine, GoldenExamples.read(directory / GOLDEN_NAME))
    if not (directory / DATASET_NAME).is_file():
        raise NotComparableError(found.name, found.version)
    return _Version(
        name=found.name,
        number=found.version,
        directory=directory,
        variant=variant,
        dataset=DatasetDescription.read(directory / DATASET_NAME),
        registered=Measurement.read(directory / MEASUREMENT_NAME),
    )


def _write_report(output: Path, version: _Version, data: str, measurement: Measurement, bundle: Path) -> None:
    """The report of a run, with one candidate, no budget and no training."""
    name = measurement.candidate
    quality = measurement.quality[measurement.metric]
    sentence = (
        f"{version.name} version {version.number} has {measurement.metric} {_shown(quality)} on {data}; when it was "
        f"registered, on validation, {_shown(version.registered.quality[version.registered.metric])}."
    )
    result = TestResult(
        candidate=name, rows=measurement.rows, quality=measurement.quality, mistakes=measurement.mistakes
    )
    verdict = Verdict(
        exit_code=0,
        sentence=sentence,
        winner=name,
        candidates=(CandidateVerdict(candidate=name, fits=True, misses=(), reason=sentence),),
        test=(result,),
        test_drop=None,
        test_reads=0,
    )
    evaluation = Evaluation(uncompressed=name, measurements=(measurement,), comparisons=())
    write_report(
        output,
        recipe={"name": version.name, "task": version.variant.task, "data": {"source": data}},
        verdict=verdict,
        evaluation=evaluation,
        judged=evaluation,
        bundle=bundle,
        candidates=Candidates(uncompressed=name, candidates=()),
        training=None,
        history=[],
        lineage={},
        key=None,
        commands=[shlex.join(["windlass", "evaluate", f"{version.name}/{version.number}", "--data", data])],
    )


def _show(output: Path, version: _Version, measurement: Measurement, seconds: float, *, as_json: bool) -> None:
    registered = version.registered
    if as_json:
        print_json(
            {
                "model": version.name,
                "version": version.number,
                "measurement": measurement.model_dump(mode="json"),
                "registered": registered.model_dump(mode="json"),
                "report": str(output / REPORT_HTML_NAME),
                "seconds": seconds,
            }
        )
        return
    rows = [
        (metric, _shown(interval), _shown(registered.quality[metric]) if metric in registered.quality else "–")
        for metric, interval in measurement.quality.items()
    ]
    headings = ("metric", f"here, {measurement.rows:,} rows", f"when registered, {registered.rows:,} rows")
    console = stdout()
    console.print(table(headings, rows))
    console.print(f"{version.name} version {version.number} measured in {duration(seconds)}", markup=False)
    console.print(f"report: {output / REPORT_HTML_NAME}", markup=False)


def _shown(interval: Interval) -> str:
    return f"{interval.point:.4f} ({interval.low:.4f} to {interval.high:.4f})"
