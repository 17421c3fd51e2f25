"""Where trials run: in this process, in processes of this machine, or on a Ray cluster. Each engine takes functions and gives futures.

No engine is of our own making: processes are Pebble's, which loses one task and not all when a process dies, and clusters are Ray's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from tutelage.errors import BadInput
from tutelage.extras import needed

MOST_WORKERS = 1024


class Pool(Protocol):
    """What runs functions beside each other.

    Attributes:
        workers: how many run at a time.
        threads: of torch, for each.
    """

    workers: int
    threads: int

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin a call of a function that can be imported by name, with arguments that can be pickled."""


class _Here:
    """One call at a time, in this process, begun when it is submitted."""

    workers = 1

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class _Processes:
    def __init__(self, pool: Any, workers: int, threads: int) -> None:
        self.pool, self.workers, self.threads = pool, workers, threads

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self.pool.schedule(function, args=arguments)


class _Ray:
    def __init__(self, ray: Any, workers: int, threads: int) -> None:
        self.ray, self.workers, self.threads = ray, workers, threads

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self.ray.remote(num_cpus=self.threads, max_retries=0)(function).remote(*arguments).future()


@contextlib.contextmanager
def pool(
    engine: str = "processes", workers: int | None = None, *, threads: int | None = None, address: str | None = None
) -> Iterator[Pool]:
    """Open an engine; when it is left, what still runs is told to stop.

    Args:
        engine: "processes" of this machine, or "ray".
        workers: how many trials run at a time; 0 runs them one by one in this process. None: one for each two cores, or with Ray as
            many as the cluster has room for.
        threads: of torch, for each; None: the cores shared out.
        address: of a Ray cluster; None starts one on this machine.

    Raises:
        BadInput: an engine that is not known, or numbers out of range.
        MissingPackage: Ray is not installed.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if engine not in ("processes", "ray"):
        raise BadInput(f"engine {engine!r} is not known; expected processes or ray")
    for name, number, least in (("workers", workers, 0), ("threads", threads, 1)):
        if number is not None and not least <= number <= MOST_WORKERS:
            raise BadInput(f"{name}={number}: expected {least} to {MOST_WORKERS}")
    if engine == "ray":
        with _ray(workers, threads, address) as found:
            yield found
        return
    count = max(1, cores // 2) if workers is None else workers
    share = threads or max(1, cores // max(1, count))
    if count == 0:
        yield _Here(share)
        return
    import multiprocessing

    from pebble import ProcessPool

    processes = ProcessPool(max_workers=count, context=multiprocessing.get_context("spawn"))
    try:
        yield _Processes(processes, count, share)
        processes.close()
    except BaseException:
        processes.stop()
        raise
    finally:
        processes.join()


@contextlib.contextmanager
def _ray(workers: int | None, threads: int | None, address: str | None) -> Iterator[Pool]:
    ray = needed("ray", "ray", "trials on a Ray cluster")
    begun = not ray.is_initialized()
    if begun:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        share = threads or 1
        room = int(ray.cluster_resources().get("CPU", 1)) // share
        if room < 1:
            raise BadInput(f"the Ray cluster has no room for a trial of {share} threads; give --threads 1")
        yield _Ray(ray, min(workers or room, room), share)
    finally:
        if begun:
            ray.shutdown()
