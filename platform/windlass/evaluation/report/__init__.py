"""report.json for programs, and one self-contained report.html that people look at."""

from windlass.evaluation.report.live import start_bundling
from windlass.evaluation.report.write import write_report

__all__ = ["start_bundling", "write_report"]
