"""The connection to Ray, and whether it still exists: Ray waits for a lost head without a message.

A process has one connection. The first run that needs it makes it, unless the program has.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from typing import Any, Final

from dotflow.errors import ClusterError
from dotflow.providers.executors.cluster.cluster_session import describe_error

HEAD_TIMEOUT: Final = 2.0  # seconds to connect to the head

_lock: Final = threading.Lock()
_users = 0
_own_job = ""  # the job id of the connection that this module made


def connect(address: str | None, options: Mapping[str, Any]) -> str:
    """Connects this process, unless it is connected, and returns the job id. The caller calls `disconnect` later."""
    global _users, _own_job
    import ray

    with _lock:
        is_new = not ray.is_initialized()
        if is_new:
            _initialize(ray, address, options)
        job: str = ray.get_runtime_context().get_job_id()
        if is_new:
            _own_job = job
        _users += 1
        return job


def disconnect() -> None:
    """Ends a connection that `connect` made, when its last user calls this."""
    global _users, _own_job
    import ray

    with _lock:
        _users -= 1
        if not _users and _own_job:
            if is_connected(_own_job):
                ray.shutdown()
            _own_job = ""


def is_connected(job: str) -> bool:
    """Returns whether the connection still exists; `ray.shutdown` may end it at any time.

    Check it before any other call: without a connection, Ray connects to whatever it finds.
    """
    import ray

    return bool(ray.is_initialized()) and ray.get_runtime_context().get_job_id() == job


def has_other_machines(address: str | None) -> bool:
    """Returns whether `connect` connects to other machines."""
    import ray

    if ray.is_initialized():
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
        raise ClusterError(name, f"can't be used: {describe_error(error)}", hint) from error
    finally:
        if in_main and handler is not None:  # ray.init replaces the program's SIGTERM handler
            signal.signal(signal.SIGTERM, handler)


def _check_head_port(address: str) -> None:
    """Raises OSError if the head accepts no connection. Ray itself would try for more than a minute."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), HEAD_TIMEOUT).close()
