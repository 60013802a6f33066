"""The same work done for a great many folders: on every processor, in order, with word of how far it is."""

import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

# Below this many, one processor is done in a second, before others would have got anywhere.
MANY = 500
# What a worker hands over at once: enough that equal texts are sent once, and few enough to wait for none of it.
PART = 100
# Beyond this many, handing over is more work than what is handed over.
WORKERS_MAX = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(
    work: Callable[[Item], Result], items: Sequence[Item], on_progress: Callable[[int, int], None]
) -> Iterator[Result]:
    """What `work`, which changes nothing, makes of each item, in order; `on_progress` is told how many of how many are done."""
    parts = [(work, items[start : start + PART]) for start in range(0, len(items), PART)]
    done = 0
    with _uncollected(len(items)):
        for results in _parts_done(parts):
            yield from results
            done += len(results)
            on_progress(done, len(items))


def _parts_done(
    parts: Sequence[tuple[Callable[[Item], Result], Sequence[Item]]],
) -> Iterator[list[Result]]:
    done = 0
    workers = min(len(os.sched_getaffinity(0)), WORKERS_MAX)
    # A process that has threads cannot be forked safely; one that is just starting has none.
    if workers > 1 and len(parts) * PART > MANY and threading.active_count() == 1:
        try:
            with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
                for results in pool.map(_part_done, parts):
                    yield results
                    done += 1
        # Workers that were killed, as for want of memory: what they did not do is done here.
        except (BrokenProcessPool, OSError):
            pass
    for part in parts[done:]:
        yield _part_done(part)


def _part_done(part: tuple[Callable[[Item], Result], Sequence[Item]]) -> list[Result]:
    work, items = part
    return [work(item) for item in items]


@contextmanager
def _uncollected(items: int) -> Iterator[None]:
    """Many values that stay are made inside: the collector of garbage would look through them again and again."""
    if items < MANY or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        # Nor has it to later: half a million values would make a call wait for it.
        gc.freeze()
