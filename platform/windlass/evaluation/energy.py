"""Energy as the processor counts it: RAPL through Linux's powercap files. Part of the measuring process."""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
_COUNTED = ("package", "dram")
"""Names of the domains that add up; `core` and `uncore` are parts of a package, `psys` holds packages."""


class EnergyCounter:
    """The sum of all packages and their memory. Reading needs a permission that many systems keep to root."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._domains = [
            (folder / "energy_uj", int((folder / "max_energy_range_uj").read_text(encoding="ascii")))
            for folder in sorted(powercap.glob("intel-rapl:*"))
            if (folder / "name").read_text(encoding="ascii").startswith(_COUNTED)
        ]
        try:
            self.read()
        except PermissionError:
            self._domains = []

    @property
    def available(self) -> bool:
        """Whether there is a counter that may be read."""
        return bool(self._domains)

    def read(self) -> tuple[int, ...]:
        """Microjoules of each domain so far; they start again at 0 when their range is over."""
        return tuple(int(path.read_text(encoding="ascii")) for path, _ in self._domains)

    def joules_since(self, before: tuple[int, ...]) -> float:
        """Joules of all domains since a reading; 0 without a counter."""
        ranges = [limit for _, limit in self._domains]
        used = [(now - then) % (limit + 1) for now, then, limit in zip(self.read(), before, ranges, strict=True)]
        return sum(used) / 1e6
