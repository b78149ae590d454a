"""The pipeline that the documentation shows is one that Kubeflow Pipelines compiles."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "distributed-jobs.md"


@pytest.mark.slow
def test_the_pipeline_of_the_how_to_compiles(tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    compiled = tmp_path / "pipeline.yaml"
    source = tmp_path / "pipeline.py"
    source.write_text(
        f"{found[1]}\n\nfrom kfp import compiler\n\ncompiler.Compiler().compile(pipeline, {str(compiled)!r})\n"
    )
    subprocess.run([sys.executable, str(source)], check=True)
    (executor,) = yaml.safe_load(compiled.read_text())["deploymentSpec"]["executors"].values()
    assert executor["container"]["image"] == "example.org/launcher:1"
