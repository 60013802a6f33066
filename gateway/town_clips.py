"""The clips only one town needs: its name, its schools' and its office's hours, kept beside its files, and first names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.audio import write_clip
from gateway.municipality import Municipality
from gateway.voice import Made, best_engine_name, make_name_clips, make_school_clips, make_town_clips

# Beside the town's YAML, in one format only, as the repository keeps all clips.
FOLDER = "sounds"


@dataclass(frozen=True, slots=True)
class MadeClip:
    """One clip that was made, by which engine, in which language."""

    language: str
    clip: str
    engine: str


def make_clips(town: Municipality, names: Iterable[str], folder: Path) -> list[MadeClip]:
    """Make what the town's languages lack in `folder`, where Asterisk looks; takes a second a clip at most.

    What lies beside the town's files is used as it is; its own words that had to be made are added there.
    """
    made: list[MadeClip] = []
    names = sorted(set(names))
    for language in town.languages:
        beside = town.folder / FOLDER / language if town.folder else None
        if beside is not None:
            for file in sorted(beside.rglob("*.alaw")):
                write_clip(folder / language / file.relative_to(beside).with_suffix(""), file.read_bytes())
        hours = (town.office.hours if town.office else None) or ""
        schools = [school.name for school in town.town.calendar.schools.values()]
        words = [
            *make_town_clips(town.name, hours, language, folder),
            *make_school_clips(schools, language, folder),
        ]
        if beside is not None:
            for each in words:
                kept = beside / f"{each.clip}.alaw"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes((folder / language / f"{each.clip}.alaw").read_bytes())
        made += (_made(language, each) for each in (*words, *make_name_clips(names, language, folder)))
    return made


def summary(made: Sequence[MadeClip]) -> str:
    """How many clips were made, by which engine, and what to think of it; no name is told."""
    if not made:
        engine = best_engine_name()
        return "no clip was missing" if engine else "no voice is installed: apt-get install espeak-ng libespeak-ng1"
    by_engine = {engine: sum(each.engine == engine for each in made) for engine in {each.engine for each in made}}
    told = ", ".join(f"{count} by {engine}" for engine, count in sorted(by_engine.items()))
    hard = (
        "; espeak-ng is hard to understand on a phone: `make sounds` fetches the better voice"
        if "espeak-ng" in by_engine
        else ""
    )
    return f"clips made: {told}{hard}"


def _made(language: str, each: Made) -> MadeClip:
    return MadeClip(language, each.clip, each.engine)
