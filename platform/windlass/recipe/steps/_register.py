"""The step `register`: the family in MLflow, the winner as a version."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.compression.documents import CANDIDATES_NAME, Candidates
from windlass.data.description import DATASET_NAME
from windlass.evaluation.documents import EVALUATION_NAME, VERDICT_NAME, Evaluation, Verdict
from windlass.models.spec import HISTORY_NAME
from windlass.recipe.keys import step_key
from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.runs import StepResult
from windlass.recipe.steps._shared import publish, tracking_uri_of
from windlass.recipe.summaries import figures, flat, test_figures
from windlass.registry.documents import REGISTRATION_NAME
from windlass.storage import Reference, Workspace

if TYPE_CHECKING:
    from windlass.registry import FamilyMember


def register(
    resolved: ResolvedRecipe,
    workspace: Workspace,
    dataset: Reference,
    model: Reference,
    candidates: Reference,
    evaluation: Reference,
    verdict: Reference,
    *,
    run_id: str,
) -> StepResult:
    """Log the family to MLflow, create the winner's version once, and move the alias if the gate is open.

    This step is never skipped: a version may have been removed there since. It is idempotent by its key.
    """
    from windlass.registry import register as register_version

    decided_in = workspace.fetch(verdict)
    decided = Verdict.read(decided_in / VERDICT_NAME)
    measured = Evaluation.read(workspace.fetch(evaluation) / EVALUATION_NAME)
    variants = {c.name: c.variant for c in Candidates.read(workspace.fetch(candidates) / CANDIDATES_NAME).candidates}
    assert decided.winner is not None
    key = step_key(
        "register",
        tracking_uri=tracking_uri_of(resolved, workspace),
        model=resolved.model_name,
        variant=variants[decided.winner].digest,
        verdict=verdict.digest,
    )
    with tempfile.TemporaryDirectory() as temporary:
        registration = register_version(
            resolved.recipe.registration,
            recipe_name=resolved.name,
            run_key=key,
            tracking_uri=tracking_uri_of(resolved, workspace),
            family=_family(workspace, variants, measured, decided, Path(temporary)),
            winner=decided.winner,
            dataset=workspace.fetch(dataset) / DATASET_NAME,
            report=decided_in,
            verdict=decided.model_dump(mode="json"),
            history=workspace.fetch(model) / HISTORY_NAME,
            tags={"windlass.dataset": dataset.digest},
            run_id_tag=run_id,
            gate_open=decided.exit_code == 0,
            parameters=flat(resolved.recipe.model_dump(mode="json", by_alias=True, exclude={"registration"})),
            threads=resolved.recipe.serve.threads,
        )
    return publish(
        "register",
        step_key("register", registration=registration.model_dump(mode="json")),
        workspace,
        lambda output: registration.write(output / REGISTRATION_NAME),
        lambda _: {"model": registration.model, "version": registration.version, "alias": registration.alias or "none"},
    )


def _family(
    workspace: Workspace, variants: Mapping[str, Reference], measured: Evaluation, decided: Verdict, directory: Path
) -> list[FamilyMember]:
    """All candidates as registration takes them, each with its measurement as a file in `directory`."""
    from windlass.registry import FamilyMember

    judged = {judgement.candidate: judgement for judgement in decided.candidates}
    family = []
    for number, measurement in enumerate(measured.measurements):
        document = directory / f"{number}.json"
        measurement.write(document)
        member = FamilyMember(
            name=measurement.candidate,
            variant=workspace.fetch(variants[measurement.candidate]),
            measurement=document,
            figures={**figures(measurement), **test_figures(decided, measurement.candidate)},
            metric=measurement.metric,
            fits=judged[measurement.candidate].fits,
            reason=judged[measurement.candidate].reason,
        )
        family.append(member)
    return family
