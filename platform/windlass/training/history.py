"""The two curves of a training, as lines of JSON: one for each epoch, one for each step."""

from __future__ import annotations

import json
from pathlib import Path

from windlass.models.spec import HISTORY_NAME, STEPS_NAME
from windlass.training.documents import EpochRecord


class History:
    """Written by the first worker into the work directory, so that a continued run goes on with the same files."""

    def __init__(self, directory: Path) -> None:
        self.epochs_path, self.steps_path = directory / HISTORY_NAME, directory / STEPS_NAME

    def rewind(self, step: int) -> None:
        """Forget what was written after `step` updates, and a line that was cut off."""
        for path in (self.epochs_path, self.steps_path):
            kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
            temporary = path.with_suffix(".new")
            temporary.write_text("".join(kept), encoding="utf-8")
            temporary.replace(path)

    def epochs(self) -> list[EpochRecord]:
        return read_epochs(self.epochs_path)

    def write_steps(self, first_step: int, losses: list[float]) -> None:
        lines = [json.dumps({"step": first_step + index, "loss": loss}) + "\n" for index, loss in enumerate(losses)]
        with self.steps_path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))

    def write_epoch(self, record: EpochRecord) -> None:
        with self.epochs_path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")


def read_epochs(path: Path) -> list[EpochRecord]:
    """The epochs that a history tells of, a line that is being written left out; none if there is no file."""
    return [EpochRecord.model_validate_json(line) for line in _whole_lines(path)]


def _whole_lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
