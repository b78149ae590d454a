"""What Kubeflow's pages show of a step: a few lines of Markdown, made of what the step published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from windlass.compression.documents import CANDIDATES_NAME, Candidates
from windlass.data.description import DATASET_NAME, DatasetDescription
from windlass.evaluation.documents import EVALUATION_NAME, Evaluation
from windlass.registry.documents import REGISTRATION_NAME, Registration
from windlass.schema import format_size
from windlass.training.documents import TRAINING_NAME, TrainingSummary

_SHOWN_COLUMNS = 40


def markdown(step: str, directory: Path) -> str:
    """The page of one step.

    Args:
        step: prepare, train, compress, evaluate or register; select has its report.
        directory: what it published.
    """
    return _PAGES[step](directory) + "\n"


def _dataset(directory: Path) -> str:
    data = DatasetDescription.read(directory / DATASET_NAME)
    names, counts = data.class_names or (), data.class_counts or {}
    rows = [
        [split, f"{number:,}", *(f"{count:,}" for count in counts.get(split, ()))]
        for split, number in data.rows.items()
    ]
    parts = [f"# Data: {data.target}", _table(["split", "rows", *(names if counts else ())], rows)]
    if data.image_shape is not None:
        height, width, channels = data.image_shape
        parts.append(f"Images of {width} × {height} pixels in {channels} channels.")
    if data.columns:
        listed = [[column.name, column.type, column.role] for column in data.columns[:_SHOWN_COLUMNS]]
        parts.append(_table(["column", "type", "role"], listed))
    if len(data.columns) > _SHOWN_COLUMNS:
        parts.append(f"…and {len(data.columns) - _SHOWN_COLUMNS} more columns.")
    told = [
        *data.warnings,
        *(f"{count:,} rows left out: {reason}" for reason, count in data.dropped_rows.items()),
        *(f"column {column} left out: {reason}" for column, reason in data.dropped_columns.items()),
    ]
    return "\n\n".join([*parts, _list(told)])


def _training(directory: Path) -> str:
    training = TrainingSummary.read(directory / TRAINING_NAME)
    best = "" if training.best_metric is None else f", {training.metric} {training.best_metric:.4f} on validation"
    told = (
        f"{training.num_parameters:,} parameters; {training.epochs} epochs, {training.steps:,} steps in "
        f"{training.seconds:.0f} s with {training.num_workers} workers on {training.device}. "
        f"The weights of epoch {training.best_epoch} were kept{best}."
    )
    return "\n\n".join(["# Training", told, _list(training.warnings)])


def _candidates(directory: Path) -> str:
    listed = Candidates.read(directory / CANDIDATES_NAME)
    rows = [
        [
            candidate.name,
            ", ".join(candidate.methods) or "as trained",
            "" if candidate.drop is None else f"{candidate.drop:.4f}",
            candidate.recovers or "",
        ]
        for candidate in listed.candidates
    ]
    left_out = [f"{left.name} was not made: {left.reason}" for left in listed.left_out]
    table = _table(["candidate", "how", "drop, as compression saw it", "wins back"], rows)
    return "\n\n".join(["# Candidates", table, _list(left_out), listed.ended])


def _evaluation(directory: Path) -> str:
    evaluation = Evaluation.read(directory / EVALUATION_NAME)
    drops = {comparison.candidate: comparison.drop for comparison in evaluation.comparisons}
    metric = evaluation.measurements[0].metric
    first = evaluation.measurements[0].latency[0].batch_size
    rows = []
    for measured in evaluation.measurements:
        quality, drop = measured.quality[metric], drops.get(measured.candidate)
        rows.append(
            [
                measured.candidate,
                f"{quality.point:.4f} ({quality.low:.4f} to {quality.high:.4f})",
                "" if drop is None else f"{drop.point:.4f} ({drop.low:.4f} to {drop.high:.4f})",
                format_size(measured.size_bytes),
                f"{measured.latency[0].p95_ms:.3g} ms",
                format_size(measured.memory.peak_bytes),
            ]
        )
    names = ["candidate", metric, "drop", "size", f"p95, batch {first}", "peak memory"]
    noise = [f"{m.candidate}: {m.noise}" for m in evaluation.measurements if m.noise]
    return "\n\n".join(["# Measured on validation", _table(names, rows), _list(noise)])


def _registration(directory: Path) -> str:
    found = Registration.read(directory / REGISTRATION_NAME)
    alias = f"The alias **{found.alias}** names it." if found.alias else "No alias names it: the gate stayed closed."
    version = f"# {found.model}, version {found.version}"
    return "\n\n".join([version, alias, f"MLflow run `{found.run_id}` at {found.tracking_uri}."])


_PAGES: Mapping[str, Callable[[Path], str]] = {
    "prepare": _dataset,
    "train": _training,
    "compress": _candidates,
    "evaluate": _evaluation,
    "register": _registration,
}


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Names of users stay text: no column ends, no tag begins."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {_cell(sentence)}" for sentence in sentences)
