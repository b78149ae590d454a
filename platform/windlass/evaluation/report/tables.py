"""The report's tables as MLflow shows them: columns, and rows of values."""

from __future__ import annotations

from typing import Any

from windlass.evaluation.report.facts import Facts

Table = dict[str, Any]


def tables(facts: Facts) -> dict[str, Table]:
    """By name, each as `{"columns": [...], "data": [[...], ...]}`, which is the form of `mlflow.log_table`."""
    found = {"candidates": _candidates(facts), "quality": _quality(facts), "latency": _latency(facts)}
    if facts.evaluation.baselines:
        found["baselines"] = _table(
            [
                {"baseline": baseline.name, "metric": metric, **interval.model_dump()}
                for baseline in facts.evaluation.baselines
                for metric, interval in baseline.quality.items()
            ]
        )
    if facts.analysis is not None and (worst := facts.analysis.slices.by_variant):
        found["slices"] = _table(
            [
                {
                    "candidate": name,
                    "slice": " and ".join(condition.text for condition in entry.conditions),
                    "rows": entry.rows,
                    "error": entry.error.point,
                    "low": entry.error.low,
                    "high": entry.error.high,
                    "rest": entry.rest,
                    "p_value": entry.p_value,
                }
                for name, slices in worst.items()
                for entry in slices
            ]
        )
    return {name: table for name, table in found.items() if table["data"]}


def _candidates(facts: Facts) -> Table:
    rows = []
    for verdict in facts.verdict.candidates:
        measurement = facts.measurement(verdict.candidate)
        comparison = facts.comparison(verdict.candidate)
        one = measurement.latency[0]
        rows.append(
            {
                "candidate": verdict.candidate,
                "chosen": verdict.candidate == facts.verdict.winner,
                "fits": verdict.fits,
                facts.metric: measurement.quality[facts.metric].point,
                "drop": comparison.drop.point if comparison else 0.0,
                "size_bytes": measurement.size_bytes,
                f"p50_ms_batch{one.batch_size}": one.p50_ms,
                f"p95_ms_batch{one.batch_size}": one.p95_ms,
                "peak_memory_bytes": measurement.memory.peak_bytes,
                "macs_per_row": measurement.cost.macs_per_row,
                "batch_invariant": measurement.batch_invariant,
                "reason": verdict.reason,
            }
        )
    return _table(rows)


def _quality(facts: Facts) -> Table:
    measured = [("validation", m.candidate, m.quality) for m in facts.evaluation.measurements]
    tested = [("test", result.candidate, result.quality) for result in facts.verdict.test]
    return _table(
        [
            {"split": split, "candidate": candidate, "metric": metric, **interval.model_dump()}
            for split, candidate, quality in (*measured, *tested)
            for metric, interval in quality.items()
        ]
    )


def _latency(facts: Facts) -> Table:
    return _table(
        [
            {"candidate": measurement.candidate, **latency.model_dump()}
            for measurement in facts.evaluation.measurements
            for latency in measurement.latency
        ]
    )


def _table(rows: list[dict[str, Any]]) -> Table:
    return {"columns": list(rows[0]) if rows else [], "data": [list(row.values()) for row in rows]}
