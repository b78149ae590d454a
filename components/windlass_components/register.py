"""Component `register`: the whole family to MLflow, the winner as a version, then the alias."""

from kfp import dsl

from windlass_components._component import component


@component
def register(
    root: str,
    run_id: str,
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    candidates: dsl.Input[dsl.Artifact],
    evaluation: dsl.Input[dsl.Artifact],
    verdict: dsl.Input[dsl.Artifact],
    version: dsl.Output[dsl.Model],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Register the winner of a run, once however often it is called.

    Args:
        root: where results live, a path or s3://bucket/prefix.
        run_id: of a run that was opened there, with its resolved recipe.
        dataset: reference of the bundle.
        model: reference of the trained model.
        candidates: reference of the list of variants.
        evaluation: reference of the measurements and comparisons.
        verdict: reference of the verdict.
        version: reference of the published registration: name, version, alias.
        summary: the version, its alias and its run in MLflow.
    """
    from windlass.recipe import steps
    from windlass_components.step_runner import read_reference, run_step

    run_step(
        "register",
        lambda recipe, workspace: steps.register(
            recipe,
            workspace,
            read_reference(dataset),
            read_reference(model),
            read_reference(candidates),
            read_reference(evaluation),
            read_reference(verdict),
            run_id=run_id,
        ),
        root=root,
        run_id=run_id,
        output=version,
        page=summary,
    )
