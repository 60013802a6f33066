"""How much CPU processes have used: ours, a server's with all its children, and the whole machine's."""

import os
from collections.abc import Iterator
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def process_cpu_s(pid: int) -> float:
    """All threads of a process, and the children that it has waited for."""
    return sum(map(int, _stat(pid)[11:15])) / TICKS_A_SECOND


def family_cpu_s(pid: int) -> float:
    """A process and its children, as PostgreSQL is one with its backends."""
    return process_cpu_s(pid) + sum(process_cpu_s(child) for child in _children(pid))


def machine_cpu_s() -> float:
    """What all processes of the machine have used, whoever they belong to."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split(maxsplit=4)[1:4])
    return (user + nice + system) / TICKS_A_SECOND


def _stat(pid: int) -> list[str]:
    """The fields after the name, from the state on; zeros of a process that has just ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 20


def _children(pid: int) -> Iterator[int]:
    for place in Path("/proc").glob("[0-9]*"):
        if int(_stat(int(place.name))[1]) == pid:
            yield int(place.name)
