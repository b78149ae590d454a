"""The network measured on the validation split, each worker taking its share of the rows.

Shapes: N examples of the split, C outputs.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from windlass.data.description import DatasetDescription
from windlass.tasks import Task
from windlass.training.arrays import SplitTensors, own_unit
from windlass.training.trainer import Evaluation
from windlass.training.workers import Workers

_BATCH_ROWS = 1024


class Validation:
    """Exact over all rows: the workers' outputs are put together before anything is averaged."""

    def __init__(
        self,
        *,
        network: nn.Module,
        preprocess: nn.Module,
        split: SplitTensors,
        task: Task,
        description: DatasetDescription,
        workers: Workers,
    ) -> None:
        self.network, self.preprocess, self.split, self.task = network, preprocess, split, task
        self.description, self.workers = description, workers
        self.head = task.head(description)

    def __call__(self) -> Evaluation:
        if len(self.split) == 0:
            return Evaluation(None, None, {})
        self.network.eval()
        with torch.no_grad():
            outputs_NC = self._outputs()
            loss = self.task.loss(outputs_NC, self.split.targets, None).mean().item()
            predictions = self.head(outputs_NC).cpu().numpy()
        targets = own_unit(self.description, self.split.targets.cpu().numpy())
        quality = self.task.epoch_quality(predictions, targets)
        known = {name: value for name, value in quality.items() if math.isfinite(value)}
        return Evaluation(loss if math.isfinite(loss) else None, known.get(self.task.metric), known)

    def _outputs(self) -> Tensor:
        count, workers = len(self.split), self.workers
        bounds = [count * rank // workers.count for rank in range(workers.count + 1)]
        mine = self.split.features[bounds[workers.rank] : bounds[workers.rank + 1]]
        parts = [self.network(self.preprocess(batch)).float() for batch in torch.split(mine, _BATCH_ROWS)]
        lengths = [stop - start for start, stop in pairwise(bounds)]
        return workers.gather_rows(torch.cat(parts), lengths)
