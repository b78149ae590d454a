"""What people are shown of a step, and what MLflow is told of a candidate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from windlass.compression.documents import CANDIDATES_NAME, Candidates
from windlass.data.description import DATASET_NAME, DatasetDescription
from windlass.evaluation.documents import EVALUATION_NAME, VERDICT_NAME, Evaluation, Measurement, Verdict
from windlass.models.spec import HISTORY_NAME
from windlass.recipe.runs import Summary


def summarize_dataset(directory: Path) -> Summary:
    description = DatasetDescription.read(directory / DATASET_NAME)
    rows: Summary = {f"{split} rows": count for split, count in description.rows.items()}
    dropped = sum(description.dropped_rows.values())
    return {**rows, **({"dropped rows": dropped} if dropped else {})}


def summarize_model(directory: Path) -> Summary:
    history = read_lines(directory / HISTORY_NAME)
    return {
        "epochs": len(history),
        "train loss": history[-1]["train_loss"],
        "validation loss": history[-1]["validation_loss"],
    }


def summarize_candidates(directory: Path) -> Summary:
    return {"candidates": len(Candidates.read(directory / CANDIDATES_NAME).candidates)}


def summarize_evaluation(directory: Path) -> Summary:
    evaluation = Evaluation.read(directory / EVALUATION_NAME)
    found: Summary = {f"{m.candidate} {m.metric}": m.quality[m.metric].point for m in evaluation.measurements}
    metric = evaluation.measurements[0].metric
    return found | {f"{b.name} {metric}": b.quality[metric].point for b in evaluation.baselines if b.name == "linear"}


def summarize_verdict(directory: Path) -> Summary:
    verdict = Verdict.read(directory / VERDICT_NAME)
    return {"winner": verdict.winner or "none", "exit code": verdict.exit_code}


def figures(measurement: Measurement) -> dict[str, float]:
    """What MLflow shows of a candidate: whatever a budget can limit, and the cost."""
    quality = {name: interval.point for name, interval in measurement.quality.items()}
    latency = {
        f"latency_{name}_batch{timed.batch_size}_ms": getattr(timed, f"{name}_ms")
        for timed in measurement.latency
        for name in ("p50", "p95", "p99")
    }
    throughput = {f"rows_per_s_batch{timed.batch_size}": timed.rows_per_s for timed in measurement.latency}
    cost = measurement.cost
    energy = {f"energy_j_batch{s.batch_size}": s.energy.joules for s in cost.per_1000_rows if s.energy is not None}
    prices = {f"price_batch{s.batch_size}": s.price for s in cost.per_1000_rows if s.price is not None}
    counts = {
        "size_bytes": measurement.size_bytes,
        "compressed_bytes": cost.compressed_bytes,
        "memory_bytes": measurement.memory.peak_bytes,
        "parameters": cost.parameters,
        "nonzero_parameters": cost.nonzero_parameters,
        "macs_per_row": cost.macs_per_row,
    }
    known = {name: count for name, count in counts.items() if count is not None}
    return {**quality, **latency, **throughput, **energy, **prices, **known}


def flat(section: dict[str, Any], path: str = "") -> dict[str, object]:
    """The values of a recipe by their paths: {"train.epochs": 8}."""
    values: dict[str, object] = {}
    for name, value in section.items():
        values |= flat(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value}
    return values


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
