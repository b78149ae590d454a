"""A plan, for people and for machines."""

from __future__ import annotations

from typing import Literal

from windlass.schema import Section

Basis = Literal["done", "timed", "earlier runs", "assumed"]


class PlannedStep(Section):
    """One step, and what its time is taken from.

    `done`: published already, so it takes nothing. `timed`: from steps of training that were timed just now. `earlier
    runs`: from what this root recorded. `assumed`: from what was measured on two cores of a server.
    """

    step: str
    work: str
    """What it will do, for people."""
    seconds: float
    basis: Basis


class RunPlan(Section):
    """What a run will make."""

    steps: tuple[PlannedStep, ...]
    candidates: tuple[str, ...]
    """Of `auto`, the rungs: it leaves out what is not worth making, and mends what loses a little."""
    num_parameters: int
    disk_bytes: int
    """What the run adds to the root, about."""

    @property
    def seconds(self) -> float:
        """About, of all steps together."""
        return sum(step.seconds for step in self.steps)
