"""What a run needs besides the API server, tried from where it is needed.

`python -m windlass_pipelines.probe` runs in a pod as the pipeline's service account and looks at the installation of
`windlass.cluster.settings` from there: each finding is a line of JSON on standard output.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import windlass
from windlass.cluster.checks import Finding
from windlass.cluster.errors import (
    DeadlineExceededError,
    ImagePullError,
    JobError,
    JobRefusedError,
    PodFailedError,
)
from windlass.cluster.jobs import DistributedJob, Resources
from windlass.cluster.launcher import Launcher
from windlass.cluster.placement import ANYWHERE, pod_fields
from windlass.cluster.settings import SETTINGS_VARIABLE, ClusterSettings, SparkSettings
from windlass.cluster.status import JobReport
from windlass.errors import WindlassError
from windlass.storage import BucketNotFoundError, S3Settings, StorageAccessError, StorageUnreachableError, Workspace

STORAGE_PATIENCE_S = 10.0
"""How long the object store may keep failing before that is what was found."""
_REQUEST_TIMEOUT_S = 10.0
_DEADLINE_S = 600
"""Of the probe's pod: the image of the steps may have to be pulled, and it is large."""
_TTL_S = 600
_FOREIGN_HOST = 403
"""What both servers say of a `Host` that they were not told of."""


class ProbeStuckError(JobError):
    """The pod waits for something that does not come by itself."""

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(job, reason)
        self.reason = reason


def check_storage(name: str, workspace: Workspace, *, credentials: str, address: str) -> Finding:
    """Write, list, read and delete a small object below the root.

    Args:
        name: of the finding.
        credentials: what to do where the store refuses them.
        address: what to do where the store does not answer.
    """
    document, data = f"doctor/{uuid.uuid4().hex}.txt", b"written by windlass doctor"
    try:
        workspace.write_document(document, data)
        try:
            listed = document in workspace.list_documents("doctor/")
            kept = workspace.read_document(document) == data
        finally:
            workspace.delete_document(document)
    except StorageAccessError as error:
        return Finding(name, "problem", f"{error.endpoint} does not allow {error.action} ({error.cause})", credentials)
    except StorageUnreachableError as error:
        return Finding(name, "problem", f"{error.endpoint} does not answer", address)
    except BucketNotFoundError as error:
        create = f"aws s3 mb s3://{error.bucket} --endpoint-url {error.endpoint}"
        return Finding(name, "problem", f"there is no bucket {error.bucket!r} at {error.endpoint}", create)
    except WindlassError as error:
        found, _, action = str(error).partition("; ")
        return Finding(name, "problem", found, action or address)
    if not (listed and kept):
        return Finding(name, "problem", f"{workspace.uri} does not give back what was just written", address)
    return Finding(name, "ok", f"{workspace.uri}: an object was written, listed, read and deleted")


def ask_tracking_server(uri: str, timeout_s: float = _REQUEST_TIMEOUT_S) -> None:
    """A call that reads the database: /health says 200 even when it is down.

    Raises:
        OSError: no answer, or an error (urllib.error.HTTPError).
        ValueError: the answer is not MLflow's.
    """
    request = urllib.request.Request(  # noqa: S310 - http or https, as the settings and the command line check
        f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": 1}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310
        json.load(reply)


def ask_gateway(uri: str) -> None:
    """Raises OSError where no worker of the gateway answers."""
    with urllib.request.urlopen(f"{uri.rstrip('/')}/livez", timeout=_REQUEST_TIMEOUT_S) as reply:  # noqa: S310
        reply.read()


def describe_probe(settings: ClusterSettings) -> DistributedJob:
    """A pod with all that the pod of a run has, and next to no resources; each call gives it another name."""
    return DistributedJob(
        name=f"windlass-probe-{uuid.uuid4().hex[:8]}",
        command=("python", "-m", "windlass_pipelines.probe", "--version", windlass.__version__),
        resources=Resources(cpu="50m", memory="512Mi"),
        api_access=True,
        restarts=0,
        deadline_s=_DEADLINE_S,
        ttl_s=_TTL_S,
        labels={"app.kubernetes.io/managed-by": "windlass", "windlass.io/part": "probe"},
        **pod_fields(
            settings,
            ANYWHERE,
            service_account=settings.pipeline_service_account,
            variables={SETTINGS_VARIABLE: settings.model_dump_json()},
        ),
    )


def describe_spark_probe(settings: ClusterSettings, spark: SparkSettings) -> DistributedJob:
    """A pod as Spark's driver is one; it says which version its image holds and asks nobody."""
    probe = describe_probe(settings)
    return dataclasses.replace(
        probe,
        name=f"{probe.name}-spark",
        image=spark.image,
        command=(*probe.command, "--only-image", spark.image),
        image_pull_policy=spark.image_pull_policy,
        service_account=spark.driver_service_account,
    )


def check_from_pod(settings: ClusterSettings, launcher: Launcher, on_state: Callable[[str], object]) -> list[Finding]:
    """Run the probe as a Job of the installation and take it away again, also on Ctrl-C.

    Where the installation has Spark, its image is tried in a pod of its own.

    Args:
        launcher: of kind `job`.
        on_state: gets a line whenever the pod's state changes.

    Raises:
        LaunchInterruptedError: SIGINT or SIGTERM came; the Job is deleted.
    """
    findings = _look_from(describe_probe(settings), _STEPS_POD, settings, launcher, on_state)
    if settings.spark is not None:
        job = describe_spark_probe(settings, settings.spark)
        findings += _look_from(job, _SPARK_POD, settings, launcher, on_state)
    return findings


@dataclass(frozen=True)
class _ProbePod:
    """How a pod of the probe is called, and where its image is set."""

    name: str
    image_value: str


_STEPS_POD = _ProbePod("pod", "pipelines.image")
_SPARK_POD = _ProbePod("spark pod", "spark.image")


def _look_from(
    job: DistributedJob,
    pod: _ProbePod,
    settings: ClusterSettings,
    launcher: Launcher,
    on_state: Callable[[str], object],
) -> list[Finding]:
    output = _Output(job.name, on_state)
    try:
        launcher.run(job, on_log=output.take_line, on_state=output.take_state)
    except JobError as error:
        return [*output.findings, _why_it_failed(error, pod, settings, output.state)]
    finally:
        launcher.delete(job.name, job.namespace)
    return [Finding(pod.name, "ok", f"{job.image} was started as {job.service_account}"), *output.findings]


class _Output:
    """Findings out of the pod's log; the pod's last state."""

    def __init__(self, job: str, on_state: Callable[[str], object]) -> None:
        self.findings: list[Finding] = []
        self.job, self.state = job, ""
        self._on_state = on_state

    def take_line(self, line: str) -> None:
        try:
            self.findings.append(Finding(**json.loads(line)))
        except (ValueError, TypeError):
            self._on_state(line)

    def take_state(self, report: JobReport) -> None:
        self.state = report.text
        self._on_state(f"probe: {report.text}")
        # The kubelet would go on trying for ever.
        if "CreateContainerConfigError" in report.text:
            raise ProbeStuckError(self.job, report.text.partition("CreateContainerConfigError: ")[2])


def _why_it_failed(error: JobError, pod: _ProbePod, settings: ClusterSettings, state: str) -> Finding:
    events = f"kubectl -n {settings.namespace} get events --sort-by=.lastTimestamp"
    found, action = str(error), events
    if isinstance(error, ImagePullError):
        found = f"image {error.image} cannot be pulled: {error.reason}"
        value = f"chart value {pod.image_value} (registry, repository, tag)"
        action = f"{value}, or global.imagePullSecrets for its registry"
    elif isinstance(error, ProbeStuckError):
        found, action = f"its container cannot be made: {error.reason}", secret_command(settings)
    elif isinstance(error, JobRefusedError):
        found = f"it is refused: {error.reason}"
    elif isinstance(error, DeadlineExceededError):
        found = f"it did not end within {_DEADLINE_S} s: {state}"
    elif isinstance(error, PodFailedError):
        said = error.failure.log_tail.strip().rpartition("\n")[2] or error.failure.reason
        found = f"it ended with {error.failure.exit_code}: {said}"
        action = f"an image of this version ({windlass.__version__}): chart value {pod.image_value}.tag"
    return Finding(pod.name, "problem", found, action)


def secret_command(settings: ClusterSettings) -> str:
    """How to make, or to correct, the Secret of the object store."""
    if settings.storage.secret is None:
        return "chart value pipelines.serviceAccountAnnotations, or storage.existingSecret"
    return (
        f"kubectl -n {settings.namespace} create secret generic {settings.storage.secret} "
        "--from-literal=AWS_ACCESS_KEY_ID=… --from-literal=AWS_SECRET_ACCESS_KEY=… "
        "--dry-run=client -o yaml | kubectl apply -f -"
    )


def _check_server(name: str, uri: str, value: str, ask: Callable[[str], None]) -> Finding:
    """One of the installation's servers, which has to answer `ask` under `uri`."""
    started_s = time.monotonic()
    try:
        ask(uri)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode(errors="replace").strip()[:200]
        action = f"chart value {value}" if error.code == _FOREIGN_HOST else _rollout(uri)
        return Finding(name, "problem", f"{uri} answers {error.code}: {said}", action)
    except (OSError, ValueError) as error:
        return Finding(name, "problem", f"{uri}: {error}", _rollout(uri))
    return Finding(name, "ok", f"{uri} answers in {1000 * (time.monotonic() - started_s):.0f} ms")


def _rollout(uri: str) -> str:
    """The chart names a server's Deployment like its Service."""
    host = urlsplit(uri).hostname or ""
    service, namespace, *_ = [*host.split("."), "", ""]
    return f"kubectl -n {namespace} rollout status deployment/{service}; kubectl -n {namespace} describe pods"


def _check_image(name: str, image: str, version: str, value: str) -> Finding:
    """Whether an image holds the version of the command line that asks."""
    found = f"{image} holds windlass {windlass.__version__}"
    if version == windlass.__version__:
        return Finding(name, "ok", found)
    action = f"chart value {value}.tag, or pip install windlass=={windlass.__version__}"
    return Finding(name, "warning", f"{found}, this is {version}", action)


def _look(settings: ClusterSettings, version: str) -> Iterator[Finding]:
    """What a run of the installation needs."""
    storage = S3Settings.from_environment().model_copy(update={"retry_for_s": STORAGE_PATIENCE_S})
    yield _check_image("image", settings.image, version, _STEPS_POD.image_value)
    yield check_storage(
        "storage (pod)",
        Workspace(settings.storage.root, s3=storage),
        credentials=secret_command(settings),
        address="chart value storage.endpoint",
    )
    yield _check_server("tracking server", settings.tracking_uri, "mlflow.allowedHosts", ask_tracking_server)
    yield _check_server("gateway", settings.gateway_uri, "gateway.allowedHosts", ask_gateway)


def main() -> int:
    """Look, and say what was found; whether it is good is for the reader to say."""
    parser = argparse.ArgumentParser(description="look at an installation from one of its pods")
    parser.add_argument("--version", required=True, help="of the command line that asks")
    parser.add_argument("--only-image", metavar="IMAGE", help="this pod's, which is Spark's: ask for nothing else")
    arguments = parser.parse_args()
    settings = ClusterSettings.from_environment()
    if settings is None:
        print(f"{SETTINGS_VARIABLE} is not set: this runs in a pod that `windlass doctor` starts", file=sys.stderr)
        return 2
    findings = (
        iter([_check_image("spark image", arguments.only_image, arguments.version, _SPARK_POD.image_value)])
        if arguments.only_image
        else _look(settings, arguments.version)
    )
    for finding in findings:
        print(json.dumps(dataclasses.asdict(finding)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
