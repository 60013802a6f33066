"""Loading 100, 1,000 and 8,000 towns, and what each then takes of memory; `python -m bench.towns DIR` is one such load.

Time is that of processors, all together: what else the machine does has no part in it. By the clock it is divided by their
number.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path

from ruamel.yaml import YAML

from bench.result import Result
from bench.serving import HOUSE
from gateway.files.load import TOWNS, Configuration, load_configuration
from gateway.generation.plan import Plan, Towns

SIZES = (100, 1_000, 8_000)
# As in the country: a quarter of a thousand pupils a town.
PUPILS_A_TOWN = 250
UNTIL = date(2026, 11, 20)
# The reference takes a minute for 8,000 towns: it parses these, and is reckoned up.
PARSED = 100
# The reference is what YAML of this size costs at least in Python; checking what it says is done on top, on all processors.
GOAL_TIME = 0.5
# The reference is the files themselves.
GOAL_MEMORY = 20.0


@dataclass(frozen=True, slots=True)
class Load:
    """One load in a process of its own: seconds of all processors and by the clock, and resident bytes that it added."""

    seconds: float
    by_the_clock: float
    added_bytes: int


def measure() -> Iterator[Result]:
    for towns in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            files = _write(Path(folder), towns)
            load = _load(Path(folder))
            yield Result(
                f"load{towns}",
                f"processor time for loading and checking {towns} towns",
                "ruamel.yaml's plain safe loader reading the same files in one process",
                load.seconds,
                _parse(files) * towns / min(towns, PARSED),
                "s",
                GOAL_TIME,
                "lower",
            )
            yield Result(
                f"keep{towns}",
                f"memory for each of {towns} towns that are in force",
                "the size of its files",
                load.added_bytes / towns / 1024,
                sum(file.stat().st_size for file in files) / min(towns, PARSED) / 1024,
                "KiB",
                GOAL_MEMORY if towns > PARSED else None,
                "lower",
            )


def _write(folder: Path, towns: int) -> Sequence[Path]:
    """So many towns, as `mensa generate` makes them; the files of the first few."""
    files: list[Path] = []
    for town in Towns(Plan(towns, towns * PUPILS_A_TOWN, 0, 1, UNTIL)):
        place = folder / TOWNS / town.key
        place.mkdir(parents=True)
        for name, text in town.files().items():
            (place / name).write_text(text, encoding="utf-8")
            files.append(place / name)
    return list(islice(files, 3 * PARSED))


def _load(folder: Path) -> Load:
    environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
    arguments = [sys.executable, "-m", "bench.towns", str(folder)]
    told = subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True)  # noqa: S603 - this file
    return Load(**json.loads(told.stdout))


def _parse(files: Sequence[Path]) -> float:
    begun = time.process_time()
    for file in files:
        YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    return time.process_time() - begun


def _processor_s() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(folder: Path) -> None:
    before, used, begun = _resident_bytes(), _processor_s(), time.perf_counter()
    configuration = load_configuration(folder)
    seconds, by_the_clock = _processor_s() - used, time.perf_counter() - begun
    assert isinstance(configuration, Configuration)
    assert not configuration.broken
    gc.collect()
    sys.stdout.write(
        json.dumps({"seconds": seconds, "by_the_clock": by_the_clock, "added_bytes": _resident_bytes() - before})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
