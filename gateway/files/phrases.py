"""The phrase files, `sounds/phrases.<language>.yaml`, read into catalogues; every mistake with its place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from ivr.prompts import Catalogue, Entry, catalogue, missing_phrases, mistakes_in
from ivr.spoken import GRAMMARS

KEYS = frozenset({"words", "where", "voice", "say", "silence_s"})
# The phrase files have 20 kB; a larger one is some other file.
BYTES_MAX = 1_000_000


class PhrasesWrong(Exception):  # noqa: N818 - holds mistakes, as the file's author is to read them
    """Raised when a phrase file cannot be used; `mistakes` holds one `FILE:LINE:COLUMN: …` line each."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def phrases_folder() -> Path:
    """Where this installation keeps its phrases and clips."""
    return Path(__file__).resolve().parents[2] / "sounds"


def read_catalogues(folder: Path, languages: tuple[str, ...] = tuple(GRAMMARS)) -> Mapping[str, Catalogue]:
    """The catalogue of each language; raises PhrasesWrong with the mistakes of all files."""
    found: dict[str, Catalogue] = {}
    mistakes: list[str] = []
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
    mistakes: list[str] = []
    language = root.get("language")
    if language not in GRAMMARS:
        place = _place(file, root, "language")
        mistakes.append(f"{place}: unknown language {language!r}; expected one of {', '.join(GRAMMARS)}")
    phrases = root.get("phrases")
    if not isinstance(phrases, CommentedMap):
        raise PhrasesWrong(
            (*mistakes, f"{_place(file, root, 'phrases')}: expected `phrases`, a mapping of id to words")
        )
    entries: list[Entry] = []
    for phrase_id, fields in phrases.items():
        place = _place(file, phrases, phrase_id)
        entry, wrong = _entry(str(phrase_id), fields, str(language))
        mistakes += [f"{place}: {mistake}" for mistake in wrong]
        if entry is not None:
            entries.append(entry)
            mistakes += [f"{place}: {mistake}" for mistake in mistakes_in(entry)]
    missing = missing_phrases(str(phrase_id) for phrase_id in phrases)
    mistakes += [f"{_place(file, root, 'phrases')}: phrase {phrase_id!r} is missing" for phrase_id in missing]
    if mistakes:
        raise PhrasesWrong(tuple(mistakes))
    return catalogue(str(language), entries)


def _load(file: Path) -> CommentedMap:
    try:
        content = file.read_bytes()[: BYTES_MAX + 1]
    except OSError as fault:
        raise PhrasesWrong((f"{file}:1:1: cannot be read ({fault.strerror}); expected a phrase file",)) from fault
    if len(content) > BYTES_MAX:
        raise PhrasesWrong((f"{file}:1:1: more than {BYTES_MAX} bytes; expected a phrase file",))
    try:
        root = YAML(typ="rt").load(content.decode("utf-8"))
    except UnicodeDecodeError as fault:
        raise PhrasesWrong((f"{file}:1:1: byte {fault.start} is not UTF-8; expected UTF-8",)) from fault
    except MarkedYAMLError as fault:
        mark = fault.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise PhrasesWrong((f"{file}:{line}:{column}: {fault.problem}; expected YAML",)) from fault
    except YAMLError as fault:
        raise PhrasesWrong((f"{file}:1:1: {' '.join(str(fault).split())}; expected YAML",)) from fault
    if not isinstance(root, CommentedMap):
        raise PhrasesWrong((f"{file}:1:1: expected a mapping",))
    return root


def _entry(phrase_id: str, fields: Any, language: str) -> tuple[Entry | None, list[str]]:
    if not isinstance(fields, CommentedMap):
        return None, [f"phrase {phrase_id!r} is {fields!r}; expected {{words: …, where: …}}"]
    mistakes = [f"unknown key {key!r} in {phrase_id!r}; expected {sorted(KEYS)}" for key in fields if key not in KEYS]
    words, where = fields.get("words"), fields.get("where")
    voice, say, silence_s = fields.get("voice", language), fields.get("say", ""), fields.get("silence_s", 0)
    for key, value in (("words", words), ("where", where), ("say", say)):
        if not isinstance(value, str):
            mistakes.append(f"{key!r} of {phrase_id!r} is {value!r}; expected text")
    if voice not in GRAMMARS:
        mistakes.append(f"'voice' of {phrase_id!r} is {voice!r}; expected one of {', '.join(GRAMMARS)}")
    if not isinstance(silence_s, int | float) or silence_s < 0:
        mistakes.append(f"'silence_s' of {phrase_id!r} is {silence_s!r}; expected seconds")
    if mistakes:
        return None, mistakes
    return Entry(phrase_id, str(words), str(where), str(voice), str(say), float(silence_s)), []


def _place(file: Path, mapping: CommentedMap, key: object) -> str:
    try:
        line, column = mapping.lc.key(key)
    except (KeyError, TypeError):
        line, column = mapping.lc.line, mapping.lc.col
    return f"{file}:{line + 1}:{column + 1}"


def read_names(folder: Path) -> Mapping[str, str]:
    """The first names with ready-made clips, each with a spelling for the voice or nothing; raises PhrasesWrong."""
    file = folder / "names.yaml"
    names = _load(file)
    mistakes = [
        f"{_place(file, names, name)}: the name {name!r} has the spelling {spelling!r}; expected text or nothing"
        for name, spelling in names.items()
        if not isinstance(name, str) or not (spelling is None or isinstance(spelling, str))
    ]
    if mistakes:
        raise PhrasesWrong(tuple(mistakes))
    return {name: spelling or "" for name, spelling in names.items()}
