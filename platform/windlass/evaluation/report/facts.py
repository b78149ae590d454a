"""All that one report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.data.description import DatasetDescription, SplitName
from windlass.evaluation.analysis.documents import Analysis, Perturbation
from windlass.evaluation.documents import Comparison, Evaluation, Measurement, TestResult, Verdict
from windlass.evaluation.report.examples import shown_split
from windlass.storage import Reference
from windlass.tasks import get_task
from windlass.variants import IN_FP32_NOTE, SENSITIVITY_NOTE

if TYPE_CHECKING:
    from windlass.compression.documents import Candidate, Candidates
    from windlass.training.documents import TrainingSummary


@dataclass(frozen=True)
class Facts:
    """The documents of one run; see `write_report` for each."""

    recipe: Mapping[str, Any]
    verdict: Verdict
    evaluation: Evaluation
    judged: Evaluation
    dataset: DatasetDescription
    bundle: Path
    candidates: Candidates
    training: TrainingSummary | None
    history: Sequence[Mapping[str, Any]]
    lineage: Mapping[str, Reference]
    key: str | None
    commands: Sequence[str]
    analysis: Analysis | None
    analysis_directory: Path | None

    @property
    def budget(self) -> dict[str, Any]:
        return {name: value for name, value in self.recipe.get("budget", {}).items() if value not in (None, {})}

    @property
    def batch_size(self) -> int:
        """At which the budget bounds latency."""
        return int(self.budget.get("batch_size", 1))

    @property
    def shown_split(self) -> SplitName:
        """Whose rows are shown as examples."""
        return shown_split(self.dataset)

    @property
    def metric(self) -> str:
        return self.evaluation.measurements[0].metric

    @property
    def higher_is_better(self) -> bool:
        return get_task(self.recipe["task"]).higher_is_better

    @property
    def uncompressed(self) -> Measurement:
        return self.measurement(self.evaluation.uncompressed)

    @property
    def chosen(self) -> Measurement | None:
        return self.measurement(self.verdict.winner) if self.verdict.winner else None

    @property
    def shown(self) -> Measurement:
        """Whose mistakes are shown: the chosen one's, else those of the one that is nearest to the budget."""
        return self.chosen or self.measurement(next(iter(self.verdict.nearest), self.evaluation.uncompressed))

    def measurement(self, candidate: str) -> Measurement:
        return next(m for m in self.evaluation.measurements if m.candidate == candidate)

    def comparison(self, candidate: str) -> Comparison | None:
        return next((c for c in self.evaluation.comparisons if c.candidate == candidate), None)

    def made(self, candidate: str) -> Candidate | None:
        return next((c for c in self.candidates.candidates if c.name == candidate), None)

    def sensitivities(self, candidate: str) -> list[tuple[str, float, bool]]:
        """Of mixed precision: each layer, how far the answers move if it alone is quantized, whether it stayed in fp32.

        The most sensitive first; empty for a candidate that was not made so.
        """
        made = self.made(candidate)
        notes = made.notes if made else {}
        scanned = {
            name.removeprefix(SENSITIVITY_NOTE): value
            for name, value in notes.items()
            if name.startswith(SENSITIVITY_NOTE)
        }
        found = [(layer, value, f"{IN_FP32_NOTE}{layer}" in notes) for layer, value in scanned.items()]
        return sorted(found, key=lambda layer: -layer[1])

    @property
    def tests(self) -> list[TestResult]:
        """The chosen one's first."""
        return sorted(self.verdict.test, key=lambda result: result.candidate != self.verdict.winner)

    def tested(self, candidate: str) -> TestResult | None:
        return next((result for result in self.verdict.test if result.candidate == candidate), None)

    @property
    def changes(self) -> list[Perturbation]:
        """What the rows were changed by without intent: what costs the analysed candidate most first."""
        if self.analysis is None:
            return []
        first = self.analysis.variants[0]
        return sorted(self.analysis.robustness, key=lambda change: -change.by_variant[first].drop.point)
