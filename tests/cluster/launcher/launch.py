"""A launcher as a process of its own, so that it can be killed: `python launch.py KIND NAMESPACE SCRIPT`."""

from __future__ import annotations

import sys
from typing import cast

from kubernetes import client, config

from launched_jobs import Ground
from windlass.cluster.launcher import KindName
from windlass.errors import WindlassError

kind, namespace, script = sys.argv[1:]
config.load_kube_config()
ground = Ground(client.ApiClient(), namespace, cast(KindName, kind))
try:
    ground.launcher().run(ground.job(script), lambda line: print(line, flush=True), ground.record.state)
except WindlassError as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
