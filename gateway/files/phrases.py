"""The phrase files, `sounds/phrases.<language>.yaml`, read into catalogues; every mistake with its place."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gateway.files.mistakes import Mistake, one_of, shown
from ivr.prompts import Catalogue, Entry, catalogue, missing_phrases, mistakes_in
from ivr.spoken import GRAMMARS

KEYS = ("words", "where", "voice", "say", "silence_s")
# The phrase files have 20 kB; a larger one is some other file.
BYTES_MAX = 1_000_000


class PhrasesWrong(Exception):  # noqa: N818 - holds mistakes, as the file's author is to read them
    """Raised when a phrase file cannot be used, with every mistake in it."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


def phrases_folder() -> Path:
    """Where this installation keeps its phrases and clips."""
    return Path(__file__).resolve().parents[2] / "sounds"


def read_catalogues(folder: Path, languages: tuple[str, ...] = tuple(GRAMMARS)) -> Mapping[str, Catalogue]:
    """The catalogue of each language; raises PhrasesWrong with the mistakes of all files."""
    found: dict[str, Catalogue] = {}
    mistakes: list[Mistake] = []
    for language in languages:
        try:
            found[language] = read_catalogue(folder / f"phrases.{language}.yaml")
        except PhrasesWrong as wrong:
            mistakes += wrong.mistakes
    if mistakes:
        raise PhrasesWrong(tuple(mistakes))
    return found


def read_catalogue(file: Path) -> Catalogue:
    """The catalogue in one file; raises PhrasesWrong with every mistake in it."""
    root = _load(file)
    mistakes: list[Mistake] = []
    language, phrases = root.get("language"), root.get("phrases")
    if language not in GRAMMARS:
        known = one_of(str(language), GRAMMARS)
        mistakes.append(_at(file, root, "language", f"unknown language {shown(language)}; {known}"))
    if not isinstance(phrases, CommentedMap):
        mistakes.append(_at(file, root, "phrases", f"'phrases' is {shown(phrases)}; expected a mapping of id to words"))
        raise PhrasesWrong(tuple(mistakes))
    entries: list[Entry] = []
    for phrase_id, fields in phrases.items():
        entry, wrong = _entry(str(phrase_id), fields, str(language))
        mistakes += [_at(file, phrases, phrase_id, message) for message in wrong]
        if entry is not None:
            entries.append(entry)
            mistakes += [_at(file, phrases, phrase_id, message) for message in mistakes_in(entry)]
    missing = missing_phrases(str(phrase_id) for phrase_id in phrases)
    mistakes += [
        _at(file, root, "phrases", f"phrase {phrase_id!r} is missing; expected it here") for phrase_id in missing
    ]
    if mistakes:
        raise PhrasesWrong(tuple(mistakes))
    return catalogue(str(language), entries)


def read_names(folder: Path) -> Mapping[str, str]:
    """The first names with ready-made clips, each with a spelling for the voice or nothing; raises PhrasesWrong."""
    file = folder / "names.yaml"
    names = _load(file)
    mistakes = tuple(
        _at(file, names, name, f"the spelling of {shown(name)} is {shown(spelling)}; expected text or nothing")
        for name, spelling in names.items()
        if not isinstance(name, str) or not (spelling is None or isinstance(spelling, str))
    )
    if mistakes:
        raise PhrasesWrong(mistakes)
    return {name: spelling or "" for name, spelling in names.items()}


@dataclass(frozen=True, slots=True)
class OtherTake:
    """How one clip is said where the ordinary way is not understood."""

    words: str
    speed: float


def read_takes(folder: Path, language: str) -> Mapping[str, OtherTake]:
    """The clips of a language that are said otherwise than the rest; raises PhrasesWrong."""
    file = folder / "takes.yaml"
    takes: dict[str, OtherTake] = {}
    mistakes: list[Mistake] = []
    of_language = _load(file).get(language) or CommentedMap()
    for clip, fields in of_language.items():
        match fields:
            case {"words": str(words), "speed": int(speed) | float(speed)} if len(fields) == 2 and speed > 0:
                takes[str(clip)] = OtherTake(words, float(speed))
            case _:
                wrong = f"clip {shown(clip)} is {shown(fields)}; expected {{words: text, speed: above 0}}"
                mistakes.append(_at(file, of_language, clip, wrong))
    if mistakes:
        raise PhrasesWrong(tuple(mistakes))
    return takes


def _load(file: Path) -> CommentedMap:
    try:
        content = file.read_bytes()[: BYTES_MAX + 1]
    except OSError as fault:
        raise _unusable(file, f"cannot be read ({fault.strerror}); expected a phrase file") from fault
    if len(content) > BYTES_MAX:
        raise _unusable(file, f"has more than {BYTES_MAX} bytes; expected a phrase file")
    try:
        root = YAML(typ="rt").load(content.decode("utf-8"))
    except UnicodeDecodeError as fault:
        raise _unusable(file, f"byte {fault.start} is {content[fault.start]:#04x}; expected UTF-8") from fault
    except MarkedYAMLError as fault:
        mark = fault.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _unusable(file, f"{' '.join(str(fault.problem).split())}; expected YAML", line, column) from fault
    except YAMLError as fault:
        raise _unusable(file, f"{' '.join(str(fault).split())}; expected YAML") from fault
    if not isinstance(root, CommentedMap):
        raise _unusable(file, f"the file is {shown(root)}; expected a mapping")
    return root


def _unusable(file: Path, message: str, line: int = 1, column: int = 1) -> PhrasesWrong:
    return PhrasesWrong((Mistake(file, line, column, f"{message}; no prompt can be spoken"),))


def _entry(phrase_id: str, fields: Any, language: str) -> tuple[Entry | None, list[str]]:
    if not isinstance(fields, CommentedMap):
        return None, [f"phrase {phrase_id!r} is {shown(fields)}; expected {{words: …, where: …}}"]
    wrong = [
        f"unknown key {shown(key)} in {phrase_id!r}; {one_of(str(key), KEYS)}" for key in fields if key not in KEYS
    ]
    words, where = fields.get("words"), fields.get("where")
    voice, say, silence_s = fields.get("voice", language), fields.get("say", ""), fields.get("silence_s", 0)
    for key, value in (("words", words), ("where", where), ("say", say)):
        if not isinstance(value, str):
            wrong.append(f"{key!r} of {phrase_id!r} is {shown(value)}; expected text")
    if "voice" in fields and voice not in GRAMMARS:
        wrong.append(f"'voice' of {phrase_id!r} is {shown(voice)}; {one_of(str(voice), GRAMMARS)}")
    if isinstance(silence_s, bool) or not isinstance(silence_s, int | float) or silence_s < 0:
        wrong.append(f"'silence_s' of {phrase_id!r} is {shown(silence_s)}; expected seconds")
    if wrong:
        return None, wrong
    return Entry(phrase_id, str(words), str(where), str(voice), str(say), float(silence_s)), []


def _at(file: Path, mapping: CommentedMap, key: object, message: str) -> Mistake:
    try:
        line, column = mapping.lc.key(key)
    except (KeyError, TypeError):
        line, column = mapping.lc.line, mapping.lc.col
    return Mistake(file, line + 1, column + 1, message)
