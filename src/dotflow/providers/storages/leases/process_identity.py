"""Which process this is, and whether another one of this machine is gone: on shared storages nothing else tells."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: How a process is listed, after its name: proc(5), /proc/pid/stat, fields 3 and 22.
STATE, STARTED = 0, 19
DEAD = frozenset("ZX")


def this_process() -> dict[str, Any]:
    """Host, number, and what makes it the only one of that number: the machine since its start, and its own start."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "process": pid, "machine": _machine_id(), "started": _stat(pid)[1]}


def is_dead_here(holder: Mapping[str, Any]) -> bool:
    """Whether it is certain that a process, as it described itself, is gone: only known of this machine's own."""
    pid, machine = holder.get("process"), holder.get("machine")
    if not machine or (machine, holder.get("host")) != (_machine_id(), socket.gethostname()):
        return False
    if type(pid) is not int or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's, and alive
        return False
    state, started = _stat(pid)
    return state in DEAD or bool(started and started != holder.get("started"))


def _machine_id() -> str:
    """The machine since it was started, and which processes are seen from here; empty where the system doesn't say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str]:
    """The state of a process and when it was started, in ticks; empty where the system doesn't say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[STATE], fields[STARTED]
    except (OSError, IndexError):
        return "", ""
