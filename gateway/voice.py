"""Clips for what only a town has: its pupils' first names, its own name, its office's hours. Made at import or at
configuration by the best engine on this machine, never during a call.

No name is ever logged; what is returned says how many were made, and by which engine.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from gateway.audio import PHONE_HZ, Audio, read_wave, to_alaw, to_phone, write_clip
from gateway.files.phrases import phrases_folder, read_names
from gateway.kokoro import KOKORO_HZ, MANNERS, NAME_MANNERS, Kokoro, VoiceMissing, is_fetched, voice_folder
from ivr.spoken import GRAMMARS, name_clip, name_said, said, school_clip, town_clip, town_said, words_clip

# Pico and espeak-ng speak a name in 50 ms; a process that takes this long is stuck.
SPOKEN_TIMEOUT_S = 20
# Longer than any first name, town or line of office hours; more would be a page read out to a caller.
CHARACTERS_MAX = 200
# Words a minute; espeak-ng's own 175 are too fast for a phone.
ESPEAK_RATE = 150
PICO_VOICES = MappingProxyType({"it": "it-IT", "en": "en-GB"})
ESPEAK_VOICES = MappingProxyType({"it": "it", "en": "en-gb"})


@dataclass(frozen=True, slots=True)
class Made:
    """One clip that was made, and the engine that made it; espeak-ng is hard to understand, so it is worth a warning."""

    clip: str
    engine: str


class Engine(Protocol):
    """A voice on this machine."""

    name: str

    def say(self, words: str, language: str, *, is_name: bool) -> tuple[Audio, int]:
        """The words as sound, and its rate in Hz. Names are read as Italian in every language."""


class KokoroEngine:
    """The voice of the ready-made clips."""

    name = "kokoro"

    def __init__(self) -> None:
        """Raises VoiceMissing when the model is not on this machine; it is never fetched from here."""
        self._kokoro = Kokoro(voice_folder())

    def say(self, words: str, language: str, *, is_name: bool) -> tuple[Audio, int]:
        return self._kokoro.say(words, (NAME_MANNERS if is_name else MANNERS)[language]), KOKORO_HZ


class PicoEngine:
    """SVOX Pico, from Debian's non-free: understood, if not pleasant."""

    name = "pico"

    def __init__(self) -> None:
        if shutil.which("pico2wave") is None:
            raise VoiceMissing("pico2wave is not installed; it is in libttspico-utils of Debian non-free")

    def say(self, words: str, language: str, *, is_name: bool) -> tuple[Audio, int]:
        voice = PICO_VOICES["it" if is_name else language]
        return _spoken(lambda file: ["pico2wave", "-l", voice, "-w", str(file), words], "")


class EspeakEngine:
    """espeak-ng through pyttsx3: the last resort, half of its words are misheard on a phone."""

    name = "espeak-ng"

    def __init__(self) -> None:
        if importlib.util.find_spec("pyttsx3") is None or shutil.which("espeak-ng") is None:
            raise VoiceMissing("espeak-ng is not installed: apt-get install espeak-ng libespeak-ng1")

    def say(self, words: str, language: str, *, is_name: bool) -> tuple[Audio, int]:
        voice = ESPEAK_VOICES["it" if is_name else language]
        return _spoken(lambda file: [sys.executable, "-m", "gateway.speak", voice, str(ESPEAK_RATE), str(file)], words)


def engines() -> Iterator[Engine]:
    """The engines of this machine, the best first; loading the best takes a second."""
    for engine in (KokoroEngine, PicoEngine, EspeakEngine):
        try:
            yield engine()
        except VoiceMissing:
            continue


def best_engine_name() -> str:
    """Which engine would be used, found out without loading it; empty when there is none."""
    if is_fetched(voice_folder()) and importlib.util.find_spec("onnxruntime") and shutil.which("espeak-ng"):
        return KokoroEngine.name
    if shutil.which("pico2wave"):
        return PicoEngine.name
    return EspeakEngine.name if shutil.which("espeak-ng") else ""


def clips_in(folder: Path, language: str) -> Mapping[str, float]:
    """The clips of one language that can be played, each with its length in seconds."""
    root = folder / language
    return {
        str(file.relative_to(root).with_suffix("")): file.stat().st_size / PHONE_HZ for file in root.rglob("*.alaw")
    }


def make_name_clips(
    names: Iterable[str], language: str, folder: Path, having: Callable[[], Iterable[Engine]] = engines
) -> list[Made]:
    """Make the clips of first names that `folder/<language>` lacks; what no engine could say is not among the answers.

    `folder` is where Asterisk looks, with the ready-made clips derived into it, so that only unusual names are made.
    """
    spellings = {name.casefold(): spelling for name, spelling in read_names(phrases_folder()).items() if spelling}
    wanted: dict[str, str] = {}
    for name in names:
        reads = name_said(name)
        if reads:
            words = " ".join(spellings.get(word.casefold(), word) for word in reads.split())
            wanted.setdefault(name_clip(name), f"{words}.")
    return _made(wanted, language, folder, having, is_name=True)


def make_town_clips(
    town_name: str, office_hours: str, language: str, folder: Path, having: Callable[[], Iterable[Engine]] = engines
) -> list[Made]:
    """Make the clips of a town's name and of its office's hours (empty: none) that `folder/<language>` lacks."""
    town = {town_clip(town_name): f"{town_said(town_name)}."}
    hours = {words_clip(office_hours): f"{hours_said(office_hours, language)}."} if office_hours else {}
    return [
        *_made(town, language, folder, having, is_name=True),
        *_made(hours, language, folder, having, is_name=False),
    ]


def make_school_clips(
    names: Iterable[str], language: str, folder: Path, having: Callable[[], Iterable[Engine]] = engines
) -> list[Made]:
    """Make the clips of schools' names that `folder/<language>` lacks, read as Italian in every language."""
    wanted = {school_clip(name): f"{said(name, 'it')}." for name in names}
    return _made(wanted, language, folder, having, is_name=True)


def _made(
    wanted: Mapping[str, str], language: str, folder: Path, having: Callable[[], Iterable[Engine]], *, is_name: bool
) -> list[Made]:
    missing = {clip: words for clip, words in wanted.items() if not (folder / language / f"{clip}.alaw").exists()}
    made: list[Made] = []
    if not missing:
        return made
    for engine in having():
        for clip, words in list(missing.items()):
            try:
                sound, rate_hz = engine.say(words[:CHARACTERS_MAX].lstrip("- "), language, is_name=is_name)
                alaw = to_alaw(to_phone(sound, rate_hz))
            except (OSError, ValueError, subprocess.SubprocessError):
                # The next engine may know how to say it; what none can say stays missing, which the start warns of.
                continue
            write_clip(folder / language / clip, alaw)
            made.append(Made(clip, engine.name))
            del missing[clip]
        if not missing:
            break
    return made


def _spoken(command_for: Callable[[Path], list[str]], words: str) -> tuple[Audio, int]:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "spoken.wav"
        subprocess.run(  # noqa: S603 - no shell; the words are an argument or standard input
            command_for(file), input=words, text=True, check=True, capture_output=True, timeout=SPOKEN_TIMEOUT_S
        )
        return read_wave(file)


# `lun`, `lunedì`, `lunedi'` and the same in English, each with the number of its weekday.
_DAYS = {day[:3].lower(): number for grammar in GRAMMARS.values() for number, day in enumerate(grammar.weekdays)}
_DAY = (
    r"\b("
    + "|".join(
        f"{day[:3]}(?:{day[3:].replace('ì', '[iì]')}(?:'(?!\\w))?)?"
        for grammar in GRAMMARS.values()
        for day in grammar.weekdays
    )
    + r")\b\.?"
)
_TIME = r"(\d{1,2})(?:[.:](\d{2}))?"
_DASH = r"\s*[-–—]\s*"


def hours_said(hours: str, language: str) -> str:
    """Office hours as a voice should read them: `lun-ven 9-12` is "dal lunedì al venerdì, dalle nove alle dodici"."""
    days = re.compile(f"{_DAY}{_DASH}{_DAY}", re.IGNORECASE)
    text = days.sub(lambda at: _days_from_to(_day(at[1], language), _day(at[2], language), language), hours)
    text = re.compile(_DAY, re.IGNORECASE).sub(lambda at: _day(at[1], language), text)
    text = re.sub(f"{_TIME}{_DASH}{_TIME}", lambda at: f", {_times_from_to(at, language)}", text)
    if language == "en":
        text = re.sub(r"\be\b", "and", text)
    return said(re.sub(r"\s*,(\s*,)*", ",", text).strip(" ,."), language)


def _day(found: str, language: str) -> str:
    return GRAMMARS[language].weekdays[_DAYS[found[:3].lower()]]


def _days_from_to(first: str, last: str, language: str) -> str:
    if language == "en":
        return f"{first} to {last}"
    return f"{'dalla' if first == 'domenica' else 'dal'} {first} {'alla' if last == 'domenica' else 'al'} {last}"


def _times_from_to(at: re.Match[str], language: str) -> str:
    if language == "en":
        return f"{_time(at[1], at[2], language)} to {_time(at[3], at[4], language)}"
    return " ".join(
        preposition + ("l'una" if int(hour) == 1 else f"le {_time(hour, minute, language)}")
        for preposition, hour, minute in (("dal", at[1], at[2]), ("al", at[3], at[4]))
    )


def _time(hour: str, minute: str | None, language: str) -> str:
    number, rest = GRAMMARS[language].number, int(minute or 0)
    joint = " e " if language == "it" else " "
    return f"{number(int(hour))}{joint}{number(rest)}" if rest else number(int(hour))
