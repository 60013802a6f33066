"""Which clips are there, how long each plays, and what is missing before the line may open."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.municipality import Municipality
from gateway.voice import clips_in
from ivr.line import Prompt
from ivr.prompts import Catalogue
from ivr.spoken import clips, missing_clips, name_clip, school_clip, town_clip, words_clip


class ClipsMissingError(Exception):
    """The catalogue has clips that are not there: a caller would hear nothing, or be hung up on."""


# A clip that was made after we looked, such as a new pupil's name: no spoken name is longer.
NEW_CLIP_S = 3.0


@dataclass(frozen=True, slots=True)
class Clips:
    """The clips below `folder` with their lengths in seconds by language, and the catalogues that name them."""

    folder: Path
    catalogues: Mapping[str, Catalogue]
    seconds: Mapping[str, Mapping[str, float]]

    def render(self, prompt: Prompt, language: str) -> Sequence[str]:
        """The clips that say `prompt`, as Asterisk finds them: each with its language before it."""
        return [f"{language}/{clip}" for clip in clips(prompt, self.catalogues[language], self._has(language))]

    def playing_s(self, names: Sequence[str]) -> float:
        """How long the clips that `render` gave play."""
        parted = (name.partition("/") for name in names)
        return sum(self.seconds.get(language, {}).get(clip, NEW_CLIP_S) for language, _, clip in parted)

    def check(self, languages: Iterable[str]) -> None:
        """Raises `ClipsMissingError` naming what the catalogue of one of these languages lacks."""
        for language in sorted(set(languages)):
            missing = missing_clips(self.catalogues[language], self.seconds.get(language, {}))
            if missing:
                more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
                raise ClipsMissingError(
                    f"sounds/{language}: {', '.join(missing[:5])}{more} missing, and a town speaks {language}; "
                    "make them with `make sounds`; the line stays closed until they are there"
                )

    def missing_of(self, town: Municipality, names: Iterable[str]) -> Iterator[str]:
        """What of a town's own words has no clip: worth a warning, since the line says something else instead."""
        for language in town.languages:
            has = self._has(language)
            hours = town.office.hours if town.office else None
            schools = [school_clip(school.name) for school in town.town.calendar.schools.values()]
            for clip in (town_clip(town.name), *schools, *([words_clip(hours)] if hours else [])):
                if not has(clip):
                    yield f"{language}/{clip}"
            unnamed = sum(not has(name_clip(name)) for name in names)
            if unnamed:
                yield f"{language}: the first names of {unnamed} pupils"

    def _has(self, language: str) -> Callable[[str], bool]:
        present = self.seconds.get(language, {})
        return lambda clip: clip in present or (self.folder / language / f"{clip}.alaw").exists()


def read_clips(folder: Path, catalogues: Mapping[str, Catalogue]) -> Clips:
    """The clips below `folder`, one folder for each language."""
    return Clips(folder, catalogues, {language: clips_in(folder, language) for language in catalogues})
