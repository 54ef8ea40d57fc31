"""The identity of this process, and whether a process of this machine has ended: for leases."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The fields 3 and 22 of /proc/pid/stat, counted after the name: proc(5).
STATE, STARTED = 0, 19
DEAD = frozenset("ZX")


def this_process() -> dict[str, Any]:
    """Returns host and process id, and what makes the id unique: the boot of the machine, the start of the process."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "process": pid, "machine": _machine_id(), "started": _stat(pid)[1]}


def is_dead_here(holder: Mapping[str, Any]) -> bool:
    """Returns whether a process has certainly ended, which is only known of this machine's processes."""
    pid, machine = holder.get("process"), holder.get("machine")
    if not machine or (machine, holder.get("host")) != (_machine_id(), socket.gethostname()):
        return False
    if type(pid) is not int or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's process
        return False
    state, started = _stat(pid)
    return state in DEAD or bool(started and started != holder.get("started"))


def _machine_id() -> str:
    """Returns the boot of this machine and the namespace of its process ids; "" where the system has none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str]:
    """Returns the state of a process and its start in ticks; "" where the system has none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[STATE], fields[STARTED]
    except (OSError, IndexError):
        return "", ""
