"""Component `select`: the smallest candidate inside the budget."""

from kfp import dsl

from windlass_components._component import component


@component
def select(
    root: str,
    run_id: str,
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    candidates: dsl.Input[dsl.Artifact],
    evaluation: dsl.Input[dsl.Artifact],
    verdict: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> int:
    """Apply the budget of a run, and read the test split once for the winner and the uncompressed model.

    Args:
        root: where results live, a path or s3://bucket/prefix.
        run_id: of a run that was opened there, with its resolved recipe.
        dataset: reference of the bundle.
        model: reference of the trained model.
        candidates: reference of the list of variants.
        evaluation: reference of the measurements and comparisons.
        verdict: reference of the published verdict, which carries the exit code.
        report: the report for people.
        metrics: figures of the winner.

    Returns:
        1 if there is a version to register, else 0. A number, for kfp.local pastes it into an expression.
    """
    from windlass.recipe import steps
    from windlass_components.step_runner import read_reference, read_verdict, run_step

    result = run_step(
        "select",
        lambda recipe, workspace: steps.select(
            recipe,
            workspace,
            read_reference(dataset),
            read_reference(model),
            read_reference(candidates),
            read_reference(evaluation),
        ),
        root=root,
        run_id=run_id,
        output=verdict,
        metrics=metrics,
    )
    return read_verdict(root, result, report)
