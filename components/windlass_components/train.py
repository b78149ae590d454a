"""Component `train`: from a dataset bundle to a model."""

from kfp import dsl

from windlass_components._component import component


@component
def train(
    root: str,
    run_id: str,
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Train the model of a run, from its newest checkpoint if there is one.

    Args:
        root: where results live, a path or s3://bucket/prefix.
        run_id: of a run that was opened there, with its resolved recipe.
        dataset: reference of the bundle.
        model: reference of the published model.
        metrics: the last figures of training.
        summary: how long it took, and which epoch was kept.
    """
    from windlass.recipe import steps
    from windlass_components.step_runner import read_reference, run_step

    run_step(
        "train",
        lambda recipe, workspace: steps.train(recipe, workspace, read_reference(dataset), run_id=run_id),
        root=root,
        run_id=run_id,
        output=model,
        metrics=metrics,
        page=summary,
    )
