"""What a task means: loss, metrics, default architecture, serving signature. One file per task.

Importing this package is cheap: torch is imported by the methods that need it.
"""

from __future__ import annotations

from windlass.tasks.image_classification import ImageClassification
from windlass.tasks.tabular_classification import TabularClassification
from windlass.tasks.tabular_regression import TabularRegression
from windlass.tasks.task import Task, UnknownTaskError

TASKS: dict[str, Task] = {
    task.name: task for task in (ImageClassification(), TabularClassification(), TabularRegression())
}

__all__ = ["TASKS", "Task", "UnknownTaskError", "get_task"]


def get_task(name: str) -> Task:
    """The task of this name.

    Raises:
        UnknownTaskError: there is no such task; the message names those that there are.
    """
    if name not in TASKS:
        raise UnknownTaskError(name, tuple(TASKS))
    return TASKS[name]
