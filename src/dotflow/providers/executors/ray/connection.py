"""The connection to Ray, of which a process has one: made by the first run that needs it, if nobody has made it yet."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from typing import Any, Final

from dotflow.errors import ClusterError
from dotflow.providers.executors.cluster.session import describe_error

HEAD_TIMEOUT: Final = 2.0  # seconds for the head to take a connection

_lock: Final = threading.Lock()
_users = 0
_own_job = ""  # the job of the connection that was made here


def connect(address: str | None, options: Mapping[str, Any]) -> str:
    """Connects this process, unless it is connected: the connection's job. `disconnect` is to follow."""
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
    """The last one to leave ends a connection that was made here."""
    global _users, _own_job
    import ray

    with _lock:
        _users -= 1
        if not _users and _own_job:
            if is_connected(_own_job):
                ray.shutdown()
            _own_job = ""


def is_connected(job: str) -> bool:
    """Whether that connection is there still; `ray.shutdown` may end it at any time.

    To be asked before anything else is: Ray makes a connection to whatever it finds where there is none.
    """
    import ray

    return bool(ray.is_initialized()) and ray.get_runtime_context().get_job_id() == job


def has_other_machines(address: str | None) -> bool:
    """Whether what `connect` connects to is more than a cluster that is started here."""
    import ray

    if ray.is_initialized():
        return len([node for node in ray.nodes() if node["Alive"]]) > 1
    return (address or os.environ.get("RAY_ADDRESS") or "local") != "local"


def is_head_reachable() -> bool:
    """Whether Ray's head still takes connections: Ray itself waits for it for a minute, and says nothing meanwhile."""
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), HEAD_TIMEOUT):
            return True
    except OSError:
        return False


def _initialize(ray: Any, address: str | None, options: Mapping[str, Any]) -> None:
    # Prints come back with the steps' replies; without this, what Ray's workers print would be printed here twice.
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _check_head_port(address or os.environ.get("RAY_ADDRESS") or "")
        ray.init(address, **{**quiet, **options})
    except Exception as error:  # Ray's own are of many pools, and plain Exception where its processes don't start
        name = f"Ray at {address or os.environ.get('RAY_ADDRESS') or 'this machine'}"
        hint = (
            "Look whether it runs there, and in the same versions: ray status. Without an address, one is started here."
        )
        raise ClusterError(name, f"can't be used: {describe_error(error)}", hint) from error
    finally:
        if in_main and handler is not None:  # SIGTERM keeps the meaning that the program gave it
            signal.signal(signal.SIGTERM, handler)


def _check_head_port(address: str) -> None:
    """Raises OSError where nobody takes connections: Ray itself would try for more than a minute."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), HEAD_TIMEOUT).close()
