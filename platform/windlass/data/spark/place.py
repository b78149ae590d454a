"""Where Spark's tasks run: in executors that are pods of a cluster, or on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from py4j.protocol import Py4JJavaError

from windlass.cluster.missing import Missing, find_missing
from windlass.data.spark.engine import SparkEngine
from windlass.data.spark.executors import NoExecutorsError, wait_for_executors
from windlass.data.spark.kubernetes import DriverPod, SparkCluster, cluster_session, executor_pod, executors_of
from windlass.data.spark.session import local_settings, spark_context


@contextmanager
def local_engine(directory: Path, *, threads: int, memory_limit_bytes: int) -> Iterator[SparkEngine]:
    """An engine whose tasks are threads of this machine."""
    settings = local_settings(directory, threads=threads, memory_limit_bytes=memory_limit_bytes)
    with spark_context(settings) as context, closing(SparkEngine(context, settings)) as engine:
        yield engine


@contextmanager
def cluster_engine(cluster: SparkCluster, directory: Path, *, memory_limit_bytes: int) -> Iterator[SparkEngine]:
    """An engine whose tasks run in executors; they are there when it is entered, and gone when it is left.

    Raises:
        NoExecutorsError: none could be started; the message says what the cluster lacks.
        ApiError: the driver's account lacks a right.
    """
    from kubernetes import client, config

    config.load_incluster_config()
    api, driver = client.ApiClient(), DriverPod.here()
    namespace, pod = cluster.settings.namespace, executor_pod(cluster.settings, cluster.pods, driver)
    settings = cluster_session(
        cluster.settings,
        cluster.pods,
        driver,
        directory,
        memory_limit_bytes=memory_limit_bytes,
        scratch=f"{cluster.scratch}/{driver.name}",
    )

    def missing() -> Missing | None:
        return find_missing(api, namespace, executors_of(driver), cluster.pods.count, pod)

    with ExitStack() as stack:
        try:
            context = stack.enter_context(spark_context(settings))
        except Py4JJavaError as error:
            # Spark asks for its first executors while it starts, and does not start where they are refused
            found = missing()
            if found is None:
                raise
            raise NoExecutorsError(cluster.pods, found.why) from error
        status = context._jsc.sc().statusTracker()
        wait_for_executors(
            cluster.pods,
            # the driver counts as one of them
            registered=lambda: len(status.getExecutorInfos()) - 1,
            missing=missing,
        )
        with closing(SparkEngine(context, settings)) as engine:
            yield engine
