"""Component `evaluate`: each candidate measured as it will be served."""

from kfp import dsl

from windlass_components._component import component


@component
def evaluate(
    root: str,
    run_id: str,
    dataset: dsl.Input[dsl.Dataset],
    candidates: dsl.Input[dsl.Artifact],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Measure the candidates of a run on the validation split.

    Args:
        root: where results live, a path or s3://bucket/prefix.
        run_id: of a run that was opened there, with its resolved recipe.
        dataset: reference of the bundle.
        candidates: reference of the list of variants.
        evaluation: reference of the published measurements and comparisons.
        metrics: every figure of every candidate.
        summary: the candidates side by side.
    """
    from windlass.recipe import steps
    from windlass_components.step_runner import log_candidates, read_reference, run_step

    result = run_step(
        "evaluate",
        lambda recipe, workspace: steps.evaluate(
            recipe, workspace, read_reference(dataset), read_reference(candidates)
        ),
        root=root,
        run_id=run_id,
        output=evaluation,
        page=summary,
    )
    log_candidates(root, result, metrics)
