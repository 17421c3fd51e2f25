"""Where trials run: in this process, in processes of this machine, or on a Ray cluster. Each engine takes functions and gives futures.

No engine is of our own making: processes are Pebble's, which loses one task and not all when a process dies, and clusters are Ray's.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from tutelage.errors import BadInput, Interrupted, in_short, nearest
from tutelage.extras import needed

MOST_WORKERS = 1024
ENGINES = ("processes", "ray")
_WATCHER = "ends-with-parent"
_AUTHENTICATION = "ray._private.authentication.authentication_token_setup"


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
        return self.pool.schedule(_in_child, args=(function, *arguments))


def _in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """A call in a process of the pool, which ends with the process that began it, and when it is told to stop.

    A process that lived on would go on writing into a folder in which the next command already works.
    """
    if not any(thread.name == _WATCHER for thread in threading.enumerate()):  # a process serves many calls
        threading.Thread(target=_end_with_parent, name=_WATCHER, daemon=True).start()
    try:
        return function(*arguments)
    except Interrupted as stopped:
        os._exit(stopped.exit_code)  # what was asked to stop has saved itself; the pool waits for the process, not for an answer


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


class _Ray:
    def __init__(self, ray: Any, workers: int, threads: int) -> None:
        self.ray, self.workers, self.threads = ray, workers, threads
        self.begun: list[Any] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        begun = self.ray.remote(num_cpus=self.threads, max_retries=0)(_at).remote(os.getcwd(), function, *arguments)
        self.begun.append(begun)
        return begun.future()

    def stop(self) -> None:
        """Stop what still runs; a cluster outlives us."""
        for each in self.begun:
            with contextlib.suppress(Exception):
                self.ray.cancel(each, force=True)


def _at(folder: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """A call in the folder in which the command was given, where that is there: paths are written as seen from it."""
    if os.path.isdir(folder):
        os.chdir(folder)
    return function(*arguments)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check(engine: str, workers: int | None, *, threads: int | None = None, address: str | None = None) -> None:
    """Refuse what `pool` would refuse, before anything long.

    Raises:
        BadInput: see `pool`.
    """
    if engine not in ENGINES:
        raise BadInput(f"engine {engine!r} is not known{nearest(str(engine), ENGINES)}; expected processes or ray")
    for name, number, least in (("workers", workers, 0), ("threads", threads, 1)):
        if number is not None and not least <= number <= MOST_WORKERS:
            raise BadInput(f"{name}={number}: expected {least} to {MOST_WORKERS}")
    if engine == "ray":
        if workers == 0:
            raise BadInput("workers=0 runs trials in this process, which is no cluster; leave it out with --engine ray, or give at least 1")
        needed("ray", "ray", "trials on a Ray cluster")
    elif address is not None:
        raise BadInput(f"address={address!r} is that of a Ray cluster; add --engine ray")


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
        BadInput: an engine that is not known, numbers out of range, Ray is not installed, or its cluster cannot be reached.
    """
    check(engine, workers, threads=threads, address=address)
    if engine == "ray":
        with _ray(workers, threads, address) as found:
            yield found
        return
    count = max(1, cores() // 2) if workers is None else workers
    share = threads or max(1, cores() // max(1, count))
    if count == 0:
        yield _Here(share)
        return
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
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # that its own cluster asks for a token, which it has made itself, is no news; that another asks for none is
        logging.getLogger(_AUTHENTICATION).addFilter(
            lambda record: not record.getMessage().startswith("Token authentication is enabled for")
        )
        try:
            ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BadInput(f"Ray cluster {address or 'of this machine'} cannot be reached: {in_short(error)}") from None
    found = None
    try:
        share = threads or 1
        room = int(ray.cluster_resources().get("CPU", 1)) // share
        if room < 1:
            raise BadInput(f"the Ray cluster has no room for a trial of {share} threads; give --threads 1")
        found = _Ray(ray, min(workers or room, room), share)
        yield found
    except BaseException:
        if found is not None:
            found.stop()
        raise
    finally:
        if begun:
            ray.shutdown()
