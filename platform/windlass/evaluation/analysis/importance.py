"""What each column of a table is worth to the served model: permutation importance (Breiman, 2001, "Random forests").

scikit-learn's `permutation_importance`, against which the tests check this, gives one figure a draw; here every draw's
answers are kept, so that the interval is paired by row and the same for all variants.
"""

from __future__ import annotations

import numpy as np

from windlass.evaluation.analysis.documents import ColumnImportance, Importance
from windlass.evaluation.analysis.robustness import MAX_COLUMNS, with_shuffled
from windlass.evaluation.analysis.subject import Subject

_DRAWS = 5
_MAX_SHOWN = 20


def permutation_importance(subject: Subject) -> Importance | None:
    """Of each variant the most important columns first; of a wide table, its first fifty columns are shuffled.

    None where there was no time for any.
    """
    columns = [column.name for column in subject.sample.description.features]
    found = subject.limit.each(
        "importance",
        columns[:MAX_COLUMNS],
        lambda column: {name: _of_column(subject, name, column) for name in subject.engines},
    )
    if not found:
        return None
    by_variant = {
        name: tuple(sorted((column[name] for column in found), key=lambda one: -one.drop.point)[:_MAX_SHOWN])
        for name in subject.engines
    }
    return Importance(columns_left_out=len(columns) - min(len(found), _MAX_SHOWN), by_variant=by_variant)


def _of_column(subject: Subject, variant: str, column: str) -> ColumnImportance:
    draws, samples = [], []
    for draw in range(_DRAWS):
        answers = subject.predict(variant, with_shuffled(subject.sample, column, draw))
        draws.append(subject.drop(variant, subject.point(answers)))
        samples.append(subject.drops(variant, subject.resampled(answers)))
    interval = subject.bootstrap.interval(float(np.mean(draws)), np.mean(samples, axis=0))
    return ColumnImportance(column=column, drop=interval, draws=tuple(draws))
