"""`python -m bench [NAME…] [--json]`: a line for each benchmark, then what the lines mean."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from bench import calls, changes, closings, crowd, dialogue, fold, headcounts, rush, store, towns
from bench.result import Result

BENCHMARKS: Mapping[str, Callable[[], Sequence[Result]]] = {
    "store": lambda: [store.measure()],
    "dialogue": lambda: [dialogue.measure()],
    "calls": lambda: [calls.measure()],
    "crowd": crowd.measure,
    "fold": lambda: [fold.measure()],
    "towns": lambda: list(towns.measure()),
    "headcount": headcounts.measure,
    "closing": closings.measure,
    "changes": changes.measure,
    "rush": rush.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Each benchmark is one ratio: ours to a reference.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; by default all")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; expected {', '.join(BENCHMARKS)}")
    results: list[Result] = []
    for name in arguments.names or BENCHMARKS:
        for result in BENCHMARKS[name]():
            results.append(result)
            if not arguments.json:
                sys.stdout.write(result.line + "\n")
                sys.stdout.flush()
    if arguments.json:
        documents = [asdict(each) | {"ratio": each.ratio, "is_met": each.is_met} for each in results]
        sys.stdout.write(json.dumps(documents, indent=2) + "\n")
    else:
        sys.stdout.write("\nEach ratio is ours / reference, medians of rounds that took turns on this machine:\n")
        sys.stdout.writelines(f"  {each.name:<9} {each.what}; against {each.against}\n" for each in results)


if __name__ == "__main__":
    main()
