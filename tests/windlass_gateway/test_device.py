"""A gateway on a device that the machine does not have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from devices import without_cuda


@without_cuda
def test_a_gateway_for_a_gpu_ends_at_once_where_none_can_be_used_and_says_what_to_install(tmp_path: Path) -> None:
    config = tmp_path / "gateway.json"
    cache = tmp_path / "cache"
    settings = {"tracking_uri": "http://127.0.0.1:9", "cache": str(cache), "port": 0, "device": "cuda"}
    config.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "windlass_gateway", str(config)]
    reply = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert reply.returncode == 2
    assert "cuda cannot be used here: onnxruntime " in reply.stderr
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in reply.stderr
    assert not cache.exists()
