"""The connection to Ray, and whether it still exists: Ray waits for a lost head without a message.

A process has one connection. The first run that needs it makes it, unless the program has, which then ends it, too.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Hashable, Mapping
from typing import Any, Final

from dotflow.errors import ClusterError
from dotflow.providers.executors.cluster.cluster_session import unusable
from dotflow.worker.interrupts import in_forked_child

HEAD_TIMEOUT: Final = 2.0  # seconds to connect to the head

_lock: Final = threading.RLock()
_users = 0
_own_job = ""  # the job of the connection that this module made
_own_options: tuple[str | None, Mapping[str, Any]] = (None, {})  # and what it was made with
_idle_actors: Final[list[tuple[str, Hashable, Any]]] = []  # those that runs have left, with their job and pool
_timer: threading.Timer | None = None  # ends what is kept
_is_forked = False


@in_forked_child
def _note_fork() -> None:
    global _is_forked
    ray = sys.modules.get("ray")
    _is_forked = ray is not None and bool(ray.is_initialized())


def connect(address: str | None, options: Mapping[str, Any]) -> str:
    """Connects this process, unless it is connected, and returns its job. The caller calls `disconnect` later.

    Raises ClusterLost if Ray can't be reached.
    """
    global _users, _own_job, _own_options
    import ray

    if _is_forked:  # the connection's threads do not exist here, and Ray allows no other one: it would wait for ever
        hint = "Start this process by spawn or forkserver, or fork it before the first run on Ray."
        raise ClusterError("Ray", "can't be used in a process that was forked from a connected one", hint)
    with _lock:
        if _timer is not None:
            _timer.cancel()
        is_kept = not _users and bool(_own_job) and is_connected(_own_job)
        if is_kept and (_own_options != (address, options) or not is_head_reachable()):
            _end()
        is_new = not ray.is_initialized()
        if is_new:
            _initialize(ray, address, options)
        job = _job_of(ray)
        if is_new:
            _own_job, _own_options = job, (address, options)
        _users += 1
        return job


def disconnect(keep: float) -> None:
    """Ends a connection that `connect` made, so many seconds after its last user has called this."""
    global _users, _timer

    with _lock:
        _users -= 1
        if _users:
            return
        if not keep:
            _end()
            return
        _timer = threading.Timer(keep, _end_unused)
        _timer.daemon = True
        _timer.start()


def _end_unused() -> None:
    with _lock:
        if not _users and threading.current_thread() is _timer:
            _end()


def _end() -> None:
    """Ends the idle actors, and a connection that `connect` made."""
    global _own_job
    import ray

    if _own_job and is_connected(_own_job):
        ray.shutdown()  # ends its actors, too
    elif ray.is_initialized() and is_head_reachable():  # else it would wait for the head
        for job, _, actor in _idle_actors:
            if is_connected(job):
                end_actor(actor)
    _idle_actors.clear()
    _own_job = ""


def leave_actor(job: str, pool: Hashable, actor: Any) -> None:
    """Leaves an idle actor to the next run, until `disconnect` ends it."""
    with _lock:
        _idle_actors.append((job, pool, actor))


def take_actors(job: str) -> list[tuple[Hashable, Any]]:
    """Returns the actors that runs have left, with their pools. They may have been lost."""
    with _lock:
        left = [(pool, actor) for its_job, pool, actor in _idle_actors if its_job == job]
        _idle_actors.clear()
        return left


def end_actor(actor: Any) -> None:
    """Ends an actor."""
    import ray

    with contextlib.suppress(Exception):  # Ray is lost, and the actor with it
        ray.kill(actor, no_restart=True)


def is_connected(job: str) -> bool:
    """Returns whether the connection still exists; `ray.shutdown` may end it at any time.

    Check it before any other call: without a connection, Ray connects to whatever it finds.
    """
    import ray

    return bool(ray.is_initialized()) and _job_of(ray) == job


def _job_of(ray: Any) -> str:
    """Returns the id of the connection's job, with the head's address, since each head counts from 1."""
    context = ray.get_runtime_context()
    return f"{context.get_job_id()}@{context.gcs_address}"


def has_other_machines(address: str | None) -> bool:
    """Returns whether `connect` connects to other machines."""
    import ray

    if ray.is_initialized() and not _is_forked and is_head_reachable():
        return len([node for node in ray.nodes() if node["Alive"]]) > 1
    return (address or os.environ.get("RAY_ADDRESS") or "local") != "local"


def is_head_reachable() -> bool:
    """Returns whether Ray's head accepts connections. Ray itself would wait for it for a minute without a message."""
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), HEAD_TIMEOUT):
            return True
    except OSError:
        return False


def _initialize(ray: Any, address: str | None, options: Mapping[str, Any]) -> None:
    # The replies carry the output of the steps. Ray would print it a second time.
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _check_head_port(address or os.environ.get("RAY_ADDRESS") or "")
        ray.init(address, **{**quiet, **options})
    except Exception as error:  # Ray's own are of many pools, and plain Exception where its processes don't start
        name = f"Ray at {address or os.environ.get('RAY_ADDRESS') or 'this machine'}"
        hint = "Check that it runs, in the same version: ray status. Without an address, dotflow starts one here."
        raise unusable(name, "can't be used", error, hint) from error
    finally:
        if in_main and handler is not None:  # ray.init replaces the program's SIGTERM handler
            signal.signal(signal.SIGTERM, handler)


def _check_head_port(address: str) -> None:
    """Raises OSError if the head accepts no connection. Ray itself would try for more than a minute."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), HEAD_TIMEOUT).close()
