"""Component `prepare`: from the source to a dataset bundle."""

from kfp import dsl

from windlass_components._component import component


@component
def prepare(
    root: str,
    run_id: str,
    dataset: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Make the dataset bundle of a run.

    Args:
        root: where results live, a path or s3://bucket/prefix.
        run_id: of a run that was opened there, with its resolved recipe.
        dataset: reference of the published bundle.
        metrics: counts of rows and columns.
        summary: splits, classes, columns, and what was left out.
    """
    from windlass.recipe import steps
    from windlass_components.step_runner import run_step

    run_step("prepare", steps.prepare, root=root, run_id=run_id, output=dataset, metrics=metrics, page=summary)
