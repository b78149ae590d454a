"""What each pod of a training job runs: `python -m windlass.training.pod --root s3://… --key STEP_KEY`.

Its number and the address of the first pod come from the operator, as PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR and
PET_MASTER_PORT; torchrun reads them. The first worker publishes the model to `<root>/steps/train/<key>/`.

It ends with 0 when the model is published; with 1 to 127 when a restart would end the same way; with 128 and more when
a restart goes on from the newest checkpoint. Why is in its termination message, a `PodEnding`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from windlass.errors import InvalidInputError, WindlassError
from windlass.progress import EVENTS_VARIABLE, message
from windlass.storage import StorageUnreachableError, Workspace
from windlass.training.documents import PodEnding, PodTrainRequest, Publication, TrainRequest, ending_name, request_name
from windlass.training.errors import TrainingInterruptedError, WorkerKilledError, WorkerLostError
from windlass.training.launcher import find_module, put_module
from windlass.training.relay import EventsPrinter, print_ending
from windlass.training.reports import describe_error
from windlass.training.torchrun import Ending, Torchrun

EXIT_LOST = 129
"""As after SIGHUP, the line was cut: a pod that misses another one."""
EXIT_STOPPED = 128 + signal.SIGTERM
MOST_TERMINATION_BYTES = 4096
"""More the kubelet does not keep."""
_AGREE_S, _AGREE_POLL_S = 3.0, 0.5


class Pod:
    """One pod's part of a training."""

    def __init__(self, workspace: Workspace, key: str) -> None:
        self.workspace, self.key = workspace, key
        self.number = int(os.environ["PET_NODE_RANK"])

    def take_part(self) -> tuple[int, PodEnding | None]:
        """Train once with the other pods; the exit code, and the termination message of a pod that did not succeed."""
        if self.workspace.find("train", self.key) is not None:
            return 0, None
        if (said := self._said()) is not None:
            return said.error.exit_code, said
        try:
            code, ending = judge(self._train())
        except WindlassError as error:
            code, ending = error.exit_code, PodEnding(retryable=False, error=describe_error(error))
        if ending is None:
            return code, None
        try:
            return self._agree(code, ending)
        except StorageUnreachableError:  # it must not hide why this pod ended
            return code, ending

    def _said(self) -> PodEnding | None:
        """What a pod has said after which no restart helps."""
        data = self.workspace.read_document(ending_name(self.key))
        return None if data is None else PodEnding.model_validate_json(data)

    def _agree(self, code: int, ending: PodEnding) -> tuple[int, PodEnding]:
        """Where one pod knows that no restart will help, the others, which miss it, end in the same way."""
        if not ending.retryable:
            self.workspace.write_document(ending_name(self.key), ending.model_dump_json().encode(), if_absent=True)
            return code, ending
        deadline_s = time.monotonic() + _AGREE_S
        while code == EXIT_LOST and time.monotonic() < deadline_s:
            if (said := self._said()) is not None:
                return said.error.exit_code, said
            time.sleep(_AGREE_POLL_S)
        return code, ending

    def _train(self) -> Ending:
        data = self.workspace.read_document(request_name(self.key))
        if data is None:
            raise InvalidInputError(
                f"there is no {request_name(self.key)} below {self.workspace.uri}; run the step again"
            )
        job = PodTrainRequest.model_validate_json(data)
        with tempfile.TemporaryDirectory(prefix="windlass-train-") as control:
            request = self._request(job, Path(control))
            printer = EventsPrinter(Path(control) / "events.jsonl")
            events = {EVENTS_VARIABLE: str(printer.path)} if self.number == 0 else {}
            with Torchrun() as torchrun:
                return torchrun.run(
                    request,
                    arguments=["--nproc-per-node", str(job.workers_per_pod)],
                    first_rank=self.number * job.workers_per_pod,
                    environment={"OMP_NUM_THREADS": str(job.threads), **events},
                    each_moment=printer,
                )

    def _request(self, job: PodTrainRequest, control: Path) -> TrainRequest:
        training, learning = job.training, job.training.learning
        if training.module is not None:
            put_module(find_module(self.workspace.fetch(training.module), training.spec), control)
        work = self.workspace.work_directory("train", self.key)
        if job.checkpoint_directory is not None:
            shutil.rmtree(work)
            # Several roots may share a volume.
            work = job.checkpoint_directory / hashlib.sha256(f"{self.workspace.uri} {self.key}".encode()).hexdigest()
            work.mkdir(parents=True, exist_ok=True)
        return TrainRequest(
            config=training.config,
            task=training.task,
            spec=training.spec,
            dataset=self.workspace.fetch(training.dataset),
            learning=learning,
            start=self.workspace.fetch(learning.start) if learning.start else None,
            teacher=self.workspace.fetch(learning.teacher) if learning.teacher else None,
            output=None,
            publication=Publication(
                root=self.workspace.uri,
                local=self.workspace.local,
                key=self.key,
                checkpoints="root" if job.checkpoint_directory is None else "work",
            ),
            work=work,
            control=control,
            launcher_pid=os.getpid(),
        )


def judge(ending: Ending) -> tuple[int, PodEnding | None]:
    """The exit code, and the termination message of a pod that did not succeed."""
    if ending.finished:
        return 0, None
    error = ending.final_error()
    if isinstance(error, TrainingInterruptedError):
        return EXIT_STOPPED, PodEnding(retryable=True, error=describe_error(error))
    if error is not None:
        return error.exit_code, PodEnding(retryable=False, error=describe_error(error))
    if ending.killed_by is not None:
        killed = WorkerKilledError(ending.failure.rank, ending.killed_by, 0)
        return 128 - ending.failure.exit_code, PodEnding(retryable=True, error=describe_error(killed))
    lost = WorkerLostError(ending.failure.rank, ending.failure.cause, 0)
    return EXIT_LOST, PodEnding(retryable=True, error=describe_error(lost))


def termination_message(ending: PodEnding) -> bytes:
    """The document, its longest texts cut at their beginning until the kubelet keeps all of it."""
    report = ending.error
    if "traceback" in report.data:  # it is in the message, too
        report = report.model_copy(update={"message": report.message.split("\n", 1)[0]})
    while True:
        data = ending.model_copy(update={"error": report}).model_dump_json().encode()
        excess = len(data) - MOST_TERMINATION_BYTES
        if excess <= 0:
            return data
        texts = {**report.data, "": report.message}
        longest = max(texts, key=lambda key: len(texts[key]))
        short = "…" + texts[longest][min(len(texts[longest]) // 2, excess + 8) :]
        changed = {"message": short} if not longest else {"data": {**report.data, longest: short}}
        report = report.model_copy(update=changed)


def _end_at_once(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the handler's form
    sys.exit(EXIT_STOPPED)


def main() -> None:
    parser = argparse.ArgumentParser(description="take part in a training as one pod of its job")
    parser.add_argument("--root", required=True, help="where the results live, s3://bucket/prefix")
    parser.add_argument("--key", required=True, help="of the step")
    parser.add_argument("--local", type=Path, default=Path("/tmp/windlass"), help="this pod's disk")  # noqa: S108
    parser.add_argument("--termination", type=Path, default=Path("/dev/termination-log"), help="what the kubelet reads")
    arguments = parser.parse_args()
    # The first process of a container ignores signals that it has no handler for.
    signal.signal(signal.SIGTERM, _end_at_once)
    try:
        pod = Pod(Workspace(arguments.root, arguments.local), arguments.key)
        code, ending = pod.take_part()
    except WindlassError as error:
        code, ending = error.exit_code, PodEnding(retryable=False, error=describe_error(error))
    if ending is not None:
        message(ending.error.message)
        if not ending.retryable and os.environ["PET_NODE_RANK"] == "0":
            print_ending(ending)
        arguments.termination.write_bytes(termination_message(ending))
    sys.exit(code)


if __name__ == "__main__":
    main()
