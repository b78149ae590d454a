"""A pipe that ends with the supervisor, however that ends: the other processes never outlive it unnoticed."""

from __future__ import annotations

import os
import select


class Life:
    """The reading end, in a child."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def is_over(self, wait_s: float) -> bool:
        """Wait, and say whether the supervisor has gone meanwhile."""
        readable, _, _ = select.select([self.descriptor], [], [], wait_s)
        return bool(readable)


def make() -> tuple[Life, int]:
    """The reading end, which children inherit, and the writing end, which only the supervisor holds."""
    reading, writing = os.pipe()
    return Life(reading), writing
