"""The steps of a run: each hands a section of the recipe to its owner, and publishes once per `step_key`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.compression.documents import CANDIDATES_NAME, Candidate, Candidates
from windlass.data.description import DATASET_NAME, DatasetDescription, SplitName
from windlass.evaluation.documents import (
    EVALUATION_NAME,
    VERDICT_NAME,
    Evaluation,
    Verdict,
)
from windlass.models.spec import HISTORY_NAME, STEPS_NAME
from windlass.recipe.keys import step_key
from windlass.recipe.preparing import prepare_here, prepare_key
from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.runs import StepResult, Summary
from windlass.recipe.spark_job import prepare_in_job, settings_for_job
from windlass.recipe.summaries import (
    figures,
    flat,
    read_lines,
    summarize_candidates,
    summarize_dataset,
    summarize_evaluation,
    summarize_model,
    summarize_verdict,
    test_figures,
)
from windlass.registry.documents import REGISTRATION_NAME
from windlass.schema import digest_of
from windlass.storage import Reference, Workspace
from windlass.tasks import get_task
from windlass.variants.engines import check_build

if TYPE_CHECKING:
    from windlass.registry import FamilyMember
    from windlass.training.cluster import TrainingPods
    from windlass.training.documents import Training

SERVING_MODULES = ("windlass_gateway.worker",)
"""What a serving process has loaded beside the model; evaluation loads it too, so that memory means the same."""


def prepare(resolved: ResolvedRecipe, workspace: Workspace) -> StepResult:
    """Make the dataset bundle: here, or in a Job of Spark's image.

    It is the first step of every run, so it also looks whether this installation or image has the engine that the
    recipe is measured with: hours of training come before the step that measures.
    """
    check_build(resolved.recipe.serve.device)
    key = prepare_key(resolved)
    settings = settings_for_job(resolved)
    if settings is None:
        reference, cached = prepare_here(resolved, workspace)
    else:
        reference, cached = prepare_in_job(resolved, workspace, key=key, settings=settings)
    summary = summarize_dataset(workspace.fetch(reference))
    return StepResult(step="prepare", key=key, reference=reference, cached=cached, summary=summary)


def train(resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference, *, run_id: str) -> StepResult:
    """Train the model on the bundle, from its newest checkpoint if there is one: here, or as a job of the cluster."""
    from windlass.training.place import find_place

    training = plan_training(resolved, workspace, dataset)
    with find_place(threads=resolved.threads, pods=_training_pods(resolved)) as place:
        reference, cached = place.train(
            training, workspace, watch=lambda work: _mirrored_metrics(resolved, workspace, run_id, work)
        )
    summary = summarize_model(workspace.fetch(reference))
    return StepResult(step="train", key=training.key, reference=reference, cached=cached, summary=summary)


def plan_training(resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference) -> Training:
    """What `train` does, and the key under which it publishes."""
    from windlass.models import make_spec
    from windlass.training.documents import Training

    recipe, task, module = resolved.recipe, get_task(resolved.recipe.task), resolved.module
    description = DatasetDescription.read(workspace.fetch(dataset) / DATASET_NAME)
    published = module.reference if module else None
    spec = make_spec(
        str(recipe.model.architecture),
        recipe.model.parameters,
        input_shape=task.input_shape(description),
        num_outputs=task.num_outputs(description),
        module_path=workspace.fetch(published) / Path(module.path).name if module and published else None,
    )
    key = step_key(
        "train",
        dataset=dataset.digest,
        task=task.name,
        spec=spec.model_dump(mode="json"),
        train=recipe.train.model_dump(mode="json", exclude={"num_workers", "keep_checkpoints"}),
    )
    return Training(config=recipe.train, task=task.name, spec=spec, module=published, dataset=dataset, key=key)


def compress(resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference, model: Reference) -> StepResult:
    """Make the candidates; each network and each variant is published by itself, so that only new ones are made."""
    from windlass.compression.ladder import make_candidates
    from windlass.compression.tree import Tree, Trunk
    from windlass.training.place import find_place

    recipe, module = resolved.recipe, resolved.module
    trunk = Trunk(
        model=model,
        module=module.reference if module else None,
        train=recipe.train,
        dataset=dataset,
        task=recipe.task,
    )
    key = step_key(
        "compress",
        model=model.digest,
        dataset=dataset.digest,
        compress=recipe.compress.model_dump(mode="json"),
        ladder=recipe.serve.device if recipe.compress.candidates == "auto" else None,
        train=recipe.train.model_dump(mode="json", exclude={"num_workers", "keep_checkpoints"}),
    )

    def make(output: Path) -> None:
        with find_place(threads=resolved.threads, pods=_training_pods(resolved)) as place:
            tree = Tree(
                trunk,
                recipe.compress,
                workspace=workspace,
                place=place,
                key=step_key,
                threads=resolved.threads,
            )
            make_candidates(tree, recipe.compress, recipe.serve.device).write(output / CANDIDATES_NAME)

    return _publish("compress", key, workspace, make, summarize_candidates)


def evaluate(resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference, candidates: Reference) -> StepResult:
    """Measure each candidate as it will be served, one at a time, and compare it with the uncompressed model."""
    from windlass.evaluation.compare import compare

    recipe = resolved.recipe
    listed = Candidates.read(workspace.fetch(candidates) / CANDIDATES_NAME)
    baselines = _measure_baselines(resolved, workspace, dataset)
    measured = [_measure(resolved, workspace, dataset, candidate, "validation") for candidate in listed.candidates]
    key = step_key(
        "evaluate",
        measurements=[reference.digest for reference in measured],
        baselines=baselines.digest,
        evaluate=recipe.evaluate.model_dump(mode="json"),
    )

    def make(output: Path) -> None:
        compare(
            [workspace.fetch(reference) for reference in measured],
            output,
            uncompressed=listed.uncompressed,
            config=recipe.evaluate,
            task=recipe.task,
            baselines=workspace.fetch(baselines),
        )

    return _publish("evaluate", key, workspace, make, summarize_evaluation)


def _measure_baselines(resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference) -> Reference:
    from windlass.evaluation.baselines import measure_baselines

    task = resolved.recipe.task
    key = step_key("evaluate", dataset=dataset.digest, task=task, split="validation")
    return workspace.once(
        "baselines",
        key,
        lambda output: measure_baselines(workspace.fetch(dataset), output, task=task, split="validation"),
    )[0]


def _measure(
    resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference, candidate: Candidate, split: SplitName
) -> Reference:
    from windlass.evaluation.machine import machine
    from windlass.evaluation.measure import measure

    recipe = resolved.recipe
    key = step_key(
        "evaluate",
        variant=candidate.variant.digest,
        dataset=dataset.digest,
        split=split,
        evaluate=recipe.evaluate.measuring(),
        serve=recipe.serve.model_dump(mode="json"),
        machine=machine(recipe.serve.device),
        modules=SERVING_MODULES,
    )

    def make(output: Path) -> None:
        measure(
            candidate.name,
            variant=workspace.fetch(candidate.variant),
            reference=candidate.variant,
            dataset=workspace.fetch(dataset),
            output=output,
            task=recipe.task,
            config=recipe.evaluate,
            serve=recipe.serve,
            split=split,
            timed=split == "validation",
            preload=SERVING_MODULES,
        )

    return workspace.once("measurements", key, make)[0]


def select(
    resolved: ResolvedRecipe,
    workspace: Workspace,
    dataset: Reference,
    model: Reference,
    candidates: Reference,
    evaluation: Reference,
) -> StepResult:
    """Apply the budget; read the test split once, for the winner and the uncompressed model; write the report.

    Both are also looked at closely, on validation; where nothing is inside the budget, the uncompressed one alone.
    """
    from windlass.evaluation.report import start_bundling, write_report
    from windlass.evaluation.resamples import at_confidence
    from windlass.evaluation.selection import select_candidate
    from windlass.training.documents import TRAINING_NAME, TrainingSummary

    recipe = resolved.recipe
    evaluated = workspace.fetch(evaluation)
    measured = Evaluation.read(evaluated / EVALUATION_NAME)
    judged = at_confidence(measured, evaluated, recipe.budget.confidence, get_task(recipe.task))
    listed = Candidates.read(workspace.fetch(candidates) / CANDIDATES_NAME)
    decided_by = {
        "dataset": dataset.digest,
        "candidates": candidates.digest,
        "evaluation": evaluation.digest,
        "budget": recipe.budget.model_dump(mode="json"),
        "evaluate": recipe.evaluate.measuring(),
    }
    decided = select_candidate(judged, recipe.budget, task=recipe.task)
    lineage = {"dataset": dataset, "model": model, "candidates": candidates, "evaluation": evaluation}
    if recipe.evaluate.analysis.rows:
        lineage["analysis"] = _analyse(resolved, workspace, dataset, model, listed, decided.winner)
    analysis = lineage.get("analysis")
    # The name, the model's history and the analysis are only shown: they make another report, not another decision.
    shown = {"name": resolved.name, "model": model.digest, "analysis": analysis and analysis.digest}
    key = step_key("select", **decided_by, **shown)

    def make(output: Path) -> None:
        start_bundling()  # on test no time is measured that it could disturb
        verdict = _judge_on_test(resolved, workspace, dataset, listed, decided, decided_by)
        verdict.write(output / VERDICT_NAME)
        write_report(
            output,
            recipe=recipe.model_dump(mode="json", by_alias=True, exclude={"registration"}),
            verdict=verdict,
            evaluation=measured,
            judged=judged,
            bundle=workspace.fetch(dataset),
            candidates=listed,
            training=TrainingSummary.read(workspace.fetch(model) / TRAINING_NAME),
            history=read_lines(workspace.fetch(model) / HISTORY_NAME),
            lineage=lineage,
            key=key,
            commands=[f"windlass run {resolved.name}.yaml", f"windlass serve {resolved.model_name}"],
            analysis=workspace.fetch(analysis) if analysis else None,
        )

    return _publish("select", key, workspace, make, summarize_verdict)


def _judge_on_test(
    resolved: ResolvedRecipe,
    workspace: Workspace,
    dataset: Reference,
    listed: Candidates,
    decided: Verdict,
    decided_by: dict[str, Any],
) -> Verdict:
    """The verdict with what test says of the winner; as it is where there is none."""
    from windlass.evaluation.selection import judge_test

    if decided.winner is None:
        return decided
    tested = {decided.winner, listed.uncompressed}
    results = [
        workspace.fetch(_measure(resolved, workspace, dataset, candidate, "test"))
        for candidate in listed.candidates
        if candidate.name in tested
    ]
    reads = _count_test_reads(workspace, dataset, decided_by)
    recipe = resolved.recipe
    return judge_test(decided, results, recipe.budget, task=recipe.task, config=recipe.evaluate, reads=reads)


def _analyse(
    resolved: ResolvedRecipe,
    workspace: Workspace,
    dataset: Reference,
    model: Reference,
    listed: Candidates,
    winner: str | None,
) -> Reference:
    """Publish what is seen of the winner and the uncompressed variant on validation; never on test."""
    from windlass.evaluation.analysis.analyse import analyse

    recipe = resolved.recipe
    published = {candidate.name: candidate.variant for candidate in listed.candidates}
    names = dict.fromkeys(name for name in (winner, listed.uncompressed) if name is not None)
    variants = {name: published[name] for name in names}
    key = step_key(
        "analyse",
        variants={name: reference.digest for name, reference in variants.items()},
        model=model.digest,
        dataset=dataset.digest,
        evaluate=recipe.evaluate.model_dump(mode="json"),
        device=recipe.serve.device,
    )

    def make(output: Path) -> None:
        analyse(
            {name: workspace.fetch(reference) for name, reference in variants.items()},
            uncompressed=listed.uncompressed,
            model=workspace.fetch(model),
            dataset=workspace.fetch(dataset),
            output=output,
            task=recipe.task,
            config=recipe.evaluate,
            threads=resolved.threads,
            device=recipe.serve.device,
        )

    return workspace.once("analyses", key, make)[0]


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
        tracking_uri=_tracking_uri(resolved, workspace),
        model=resolved.model_name,
        variant=variants[decided.winner].digest,
        verdict=verdict.digest,
    )
    with tempfile.TemporaryDirectory() as temporary:
        registration = register_version(
            resolved.recipe.registration,
            recipe_name=resolved.name,
            run_key=key,
            tracking_uri=_tracking_uri(resolved, workspace),
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
    return _publish(
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


def _publish(
    step: str,
    key: str,
    workspace: Workspace,
    make: Callable[[Path], None],
    summarize: Callable[[Path], Summary],
) -> StepResult:
    reference, cached = workspace.once(step, key, make)
    summary = summarize(workspace.fetch(reference))
    return StepResult(step=step, key=key, reference=reference, cached=cached, summary=summary)


def _count_test_reads(workspace: Workspace, dataset: Reference, decided_by: dict[str, Any]) -> int:
    """How many decisions have read this dataset's test split, this one included: each one makes it less honest."""
    folder = f"test-reads/{dataset.digest}/"
    workspace.write_document(f"{folder}{digest_of(decided_by)[:32]}.json", b"{}")
    return len(workspace.list_documents(folder))


def _tracking_uri(resolved: ResolvedRecipe, workspace: Workspace) -> str:
    from windlass.registry import default_tracking_uri

    return resolved.recipe.registration.tracking_uri or default_tracking_uri(workspace.local)


def _mirrored_metrics(
    resolved: ResolvedRecipe, workspace: Workspace, run_id: str, work: Path
) -> AbstractContextManager[object]:
    """Follow training on a tracking server. A file of SQLite gets it all at the end: nobody watches it live."""
    tracking_uri = _tracking_uri(resolved, workspace)
    if not tracking_uri.startswith("http"):
        return nullcontext()
    from windlass.registry import MetricsMirror

    return MetricsMirror(
        work / HISTORY_NAME, work / STEPS_NAME, tracking_uri=tracking_uri, experiment=resolved.name, run_id_tag=run_id
    )


def _training_pods(resolved: ResolvedRecipe) -> TrainingPods:
    """What the recipe asks of a cluster for each training; a training on this machine asks for nothing."""
    from windlass.training.cluster import TrainingPods

    asked = resolved.recipe.resources.cluster
    return TrainingPods(
        processes=asked.worker.processes,
        cpu=asked.worker.cpu,
        memory_bytes=asked.worker.memory,
        gpus=asked.worker.gpus,
        node_selector=asked.node_selector,
        tolerations=asked.pod_tolerations(),
        checkpoint_claim=asked.checkpoint_claim,
        image_pull_policy=asked.image_pull_policy,
        priority_class=asked.priority_class,
        queue=asked.queue,
        timeout_s=asked.training_timeout,
    )
