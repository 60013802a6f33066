"""Makes the clips that are missing or whose words, voice or processing changed: `python -m sounds.make`.

What is made is kept in the repository, so that a machine that only answers calls needs no model. Each clip's hash stands in
`sounds/manifest.<language>.json`; a clip whose hash is the same is never made again.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.audio import PROCESSING, from_alaw, level_dbfs, peak_dbfs, silence, to_alaw, to_phone
from gateway.files.phrases import PhrasesWrong, phrases_folder, read_catalogues, read_names, read_takes
from gateway.kokoro import (
    KOKORO_HZ,
    MANNERS,
    MODEL_SHA256,
    NAME_MANNERS,
    Kokoro,
    Manner,
    VoiceMissing,
    fetch,
    voice_folder,
)
from ivr.spoken import GRAMMARS, name_clip, required_clips, said

# Whose voice says the ready-made first names.
NAMES_LANGUAGE = "it"
# So often the manifest is written: what an interrupted run has made is not made again.
SAVED_EVERY = 20


@dataclass(frozen=True, slots=True)
class Take:
    """One clip to be made: what the voice reads, and how."""

    clip: str
    words: str
    manner: Manner
    silence_s: float = 0.0

    @property
    def hash(self) -> str:
        """Changes when the clip would sound different."""
        made_of = (self.words, str(self.manner), MODEL_SHA256, str(PROCESSING), f"{self.silence_s:g}")
        return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:32]


def takes(folder: Path, language: str) -> Iterator[Take]:
    """Every clip of one language that is kept in the repository."""
    others = read_takes(folder, language)
    for clip in required_clips(read_catalogues(folder)[language]):
        manner = MANNERS[clip.language]
        if other := others.get(clip.name):
            yield Take(clip.name, other.words, replace(manner, speed=other.speed))
        else:
            yield Take(clip.name, said(clip.words, clip.language), manner, clip.silence_s)
    # One voice says the names in every language; `sounds.derive` puts its clips where a language has none of its own.
    for name, spelling in read_names(folder).items() if language == NAMES_LANGUAGE else ():
        yield Take(name_clip(name), f"{spelling or name}.", NAME_MANNERS[language])


def manifest_file(folder: Path, language: str) -> Path:
    """Where the hashes, lengths and levels of a language's clips stand."""
    return folder / f"manifest.{language}.json"


def read_manifest(file: Path) -> dict[str, dict[str, Any]]:
    """Clip name to `hash`, `content` (of the file), `seconds`, `level_dbfs`, `peak_dbfs`; empty when there is none."""
    if not file.exists():
        return {}
    manifest: dict[str, dict[str, Any]] = json.loads(file.read_text("utf-8"))
    return manifest


def write_manifest(file: Path, manifest: dict[str, dict[str, Any]]) -> None:
    """One line a clip, sorted, so that a change is a readable diff."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(manifest[name], sort_keys=True)}" for name in sorted(manifest))
    partial = file.with_suffix(".part")
    partial.write_text(f"{{\n{lines}\n}}\n", "utf-8")
    partial.replace(file)


def is_made(take: Take, language_folder: Path, manifest: dict[str, dict[str, Any]]) -> bool:
    """Whether the clip on disk is the one that this take would make."""
    file = language_folder / f"{take.clip}.alaw"
    entry = manifest.get(take.clip)
    if entry is None or entry["hash"] != take.hash or not file.is_file():
        return False
    return bool(entry["content"] == content_hash(file.read_bytes()))


def content_hash(content: bytes) -> str:
    """What tells one clip's file from another."""
    return hashlib.sha256(content).hexdigest()[:32]


def make(folder: Path, language: str, console: Console) -> int:
    """Make what is missing or changed, remove what no phrase needs any more; returns how many clips were made."""
    language_folder, file = folder / language, manifest_file(folder, language)
    manifest = read_manifest(file)
    wanted = {take.clip: take for take in takes(folder, language)}
    for clip in sorted(set(manifest) - set(wanted)):
        (language_folder / f"{clip}.alaw").unlink(missing_ok=True)
        del manifest[clip]
    missing = [take for take in wanted.values() if not is_made(take, language_folder, manifest)]
    if missing:
        fetch(voice_folder())
        kokoro = Kokoro(voice_folder())
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            for number, take in enumerate(progress.track(missing, description=f"clips {language}"), start=1):
                manifest[take.clip] = _made(kokoro, take, language_folder)
                if number % SAVED_EVERY == 0:
                    write_manifest(file, manifest)
    write_manifest(file, manifest)
    return len(missing)


def _made(kokoro: Kokoro, take: Take, language_folder: Path) -> dict[str, Any]:
    sound = silence(take.silence_s) if take.silence_s else to_phone(kokoro.say(take.words, take.manner), KOKORO_HZ)
    content = to_alaw(sound)
    file = language_folder / f"{take.clip}.alaw"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    heard = from_alaw(content)
    return {
        "hash": take.hash,
        "content": content_hash(content),
        "words": take.words,
        "seconds": round(len(heard) / 8000, 2),
        "level_dbfs": round(level_dbfs(heard), 1),
        "peak_dbfs": round(peak_dbfs(heard), 1),
    }


def main() -> int:
    """Make the clips of the languages asked for; 0 when all are there."""
    parser = argparse.ArgumentParser(description="Make the clips that are missing or changed.")
    parser.add_argument("--language", nargs="+", choices=sorted(GRAMMARS), default=sorted(GRAMMARS, reverse=True))
    parser.add_argument("--folder", type=Path, default=phrases_folder())
    asked = parser.parse_args()
    console = Console(stderr=True)
    try:
        for language in asked.language:
            made = make(asked.folder, language, console)
            console.print(f"{language}: {made} clips made", highlight=False)
    except (PhrasesWrong, VoiceMissing) as wrong:
        print(wrong, file=sys.stderr)  # noqa: T201 - a program's message
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
