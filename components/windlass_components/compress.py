"""Component `compress`: from a model to candidates."""

from kfp import dsl

from windlass_components._component import component


@component
def compress(
    root: str,
    run_id: str,
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    candidates: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Make the candidates of a run.

    Args:
        root: where results live, a path or s3://bucket/prefix.
        run_id: of a run that was opened there, with its resolved recipe.
        dataset: reference of the bundle whose train rows calibrate.
        model: reference of the trained model.
        candidates: reference of the published list of variants.
        summary: how each candidate was made, and what was left out.
    """
    from windlass.recipe import steps
    from windlass_components.step_runner import read_reference, run_step

    run_step(
        "compress",
        lambda recipe, workspace: steps.compress(recipe, workspace, read_reference(dataset), read_reference(model)),
        root=root,
        run_id=run_id,
        output=candidates,
        page=summary,
    )
