"""What each column of a table is worth to the served model: permutation importance (Breiman, 2001, "Random forests").

scikit-learn's `permutation_importance`, against which the tests check this, gives one figure a draw; here every draw's
answers are kept, so that the interval is paired by row and the same for all variants.
"""

from __future__ import annotations

import numpy as np

from windlass.evaluation.analysis.documents import ColumnImportance, Importance
from windlass.evaluation.analysis.robustness import MAX_COLUMNS, shuffled
from windlass.evaluation.analysis.subject import Subject

_DRAWS = 5
_MAX_SHOWN = 20


def permutation_importance(subject: Subject) -> Importance:
    """Of each variant the most important columns first; of a wide table, its first fifty columns are shuffled."""
    columns = [column.name for column in subject.sample.description.features]
    by_variant = {}
    for name in subject.engines:
        found = [_of_column(subject, name, column) for column in columns[:MAX_COLUMNS]]
        by_variant[name] = tuple(sorted(found, key=lambda importance: -importance.drop.point)[:_MAX_SHOWN])
    return Importance(columns_left_out=max(0, len(columns) - _MAX_SHOWN), by_variant=by_variant)


def _of_column(subject: Subject, variant: str, column: str) -> ColumnImportance:
    draws, samples = [], []
    for draw in range(_DRAWS):
        answers = subject.predict(
            variant, subject.sample.with_columns({column: shuffled(subject.sample, column, draw)})
        )
        draws.append(subject.drop(variant, subject.point(answers)))
        samples.append(subject.drops(variant, subject.resampled(answers)))
    interval = subject.bootstrap.interval(float(np.mean(draws)), np.mean(samples, axis=0))
    return ColumnImportance(column=column, drop=interval, draws=tuple(draws))
