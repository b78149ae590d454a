"""What an executor's pod runs: `python -m windlass.data.spark.executor executor`.

Spark tells its executors everything by variables of their pods, and expects an image that makes a command of them, as
its own `entrypoint.sh` does. This process becomes that command, so that signals reach Java at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_MAIN = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
_OPTION = "SPARK_JAVA_OPT_"
_ARGUMENTS = {
    "--driver-url": "SPARK_DRIVER_URL",
    "--executor-id": "SPARK_EXECUTOR_ID",
    "--cores": "SPARK_EXECUTOR_CORES",
    "--app-id": "SPARK_APPLICATION_ID",
    "--hostname": "SPARK_EXECUTOR_POD_IP",
    "--resourceProfileId": "SPARK_RESOURCE_PROFILE_ID",
    "--podName": "SPARK_EXECUTOR_POD_NAME",
}


def executor_command(environment: Mapping[str, str]) -> list[str]:
    """The command line of an executor, from the variables that Spark sets in its pod."""
    numbers = sorted(int(name.removeprefix(_OPTION)) for name in environment if name.startswith(_OPTION))
    options = [environment[f"{_OPTION}{number}"] for number in numbers]
    heap = [f"-Xmx{environment['SPARK_EXECUTOR_MEMORY']}"]
    classes = ["-cp", f"{environment['SPARK_HOME']}/jars/*", _MAIN]
    arguments = [word for flag, name in _ARGUMENTS.items() for word in (flag, environment[name])]
    return [f"{environment['JAVA_HOME']}/bin/java", *options, *heap, *classes, *arguments]


if __name__ == "__main__":
    command = executor_command(os.environ)
    os.execv(command[0], command)  # noqa: S606 - that there is no shell is the point
