"""Many parts of many files at once, on a few threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

from windlass.progress import Tracker

Part = Callable[[threading.Event], int]
"""Moves bytes, says how many; gives up when the event is set."""


@dataclass
class Job:
    """One file: parts in any order, then `finish`, once all have succeeded."""

    parts: list[Part]
    finish: Part | None = None


def run_jobs(jobs: Iterable[Job], num_workers: int, bar: Tracker) -> None:
    """Run the parts of all jobs; the first failure stops the others and is raised."""
    stopped = threading.Event()
    ended: SimpleQueue[tuple[Job, Future[int]]] = SimpleQueue()

    def start(job: Job, part: Part) -> None:
        pool.submit(part, stopped).add_done_callback(lambda future: ended.put((job, future)))

    with ThreadPoolExecutor(num_workers, thread_name_prefix="windlass-transfer") as pool:
        try:
            left = {}
            for job in jobs:
                left[id(job)] = len(job.parts)
                for part in job.parts:
                    start(job, part)
            running = sum(left.values())
            while running:
                job, future = ended.get()
                bar.advance(future.result())
                running -= 1
                left[id(job)] -= 1
                if left[id(job)] == 0 and job.finish is not None:
                    start(job, job.finish)
                    running += 1
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
