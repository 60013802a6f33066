"""Puts the clips where Asterisk looks, in every format it plays without transcoding: `python -m sounds.derive TARGET`.

Seconds, not minutes: only what is missing or changed is written.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.audio import write_clip
from gateway.files.phrases import phrases_folder
from ivr.spoken import GRAMMARS
from sounds.make import NAMES_LANGUAGE


def with_names(folder: Path, language: str, clip: str) -> Path:
    """The file of a clip; a first name comes from the language that has the ready-made names."""
    file = folder / language / f"{clip}.alaw"
    if clip.startswith("name/") and not file.exists():
        return folder / NAMES_LANGUAGE / f"{clip}.alaw"
    return file


def clip_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """`it/phrase/goodbye` and its file, for every clip of every language, names of one language in all of them."""
    for language in GRAMMARS:
        own = {str(file.relative_to(folder / language).with_suffix("")): file for file in _alaw(folder / language)}
        names = _alaw(folder / NAMES_LANGUAGE / "name")
        ready = {f"name/{file.stem}": file for file in names}
        for clip, file in sorted((ready | own).items()):
            yield f"{language}/{clip}", file


def _alaw(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.alaw"))


def derive(folder: Path, target: Path) -> int:
    """Write what is missing or changed in `target`; what is there besides is left alone. Returns how many clips."""
    return sum(write_clip(target / name, file.read_bytes()) for name, file in clip_files(folder))


def main() -> int:
    """Derive into the folder that is named; 0 when it holds every clip."""
    parser = argparse.ArgumentParser(description="Put the clips where Asterisk looks, as .alaw, .ulaw and .wav.")
    parser.add_argument("target", type=Path, help="the folder that gets one folder per language")
    parser.add_argument("--folder", type=Path, default=phrases_folder())
    asked = parser.parse_args()
    try:
        written = derive(asked.folder, asked.target)
    except OSError as fault:
        where = f"{fault.filename or asked.target}: {fault.strerror}"
        print(f"{where}; expected a folder that can be written to; the clips are not complete", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{asked.target}: {written} clips written", file=sys.stderr)  # noqa: T201 - a program's message
    return 0


if __name__ == "__main__":
    sys.exit(main())
