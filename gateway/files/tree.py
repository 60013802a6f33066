"""YAML as a tree of texts with their places; nothing is guessed to be a number, a date or a truth value.

Read from the parser's events: `2026-02-30` and `10:30` stay what was written, a duplicate key is seen, and nothing that the
format can do beyond tables, lists and texts (aliases, tags, several documents) gets in.

Two parsers of one library: libyaml's, twenty times as fast, takes what is plainly written and has no mistake; all else, every
mistake included, is the Python one's to say.
"""

import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _ruamel_yaml import CParser
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from gateway.files.mistakes import Mistake, shown

# Ten school years of a large town fill a tenth of this; a larger file is some other file.
BYTES_MAX = 1_000_000
# The deepest of our files (schools, school, classes, class, weekday) has five levels.
DEPTH_MAX = 20
# What a plain scalar means nothing by; in quotes the same letters are a text.
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
# What both parsers read alike: European letters on lines that end in \n, without YAML's rarer signs.
_PLAINLY_WRITTEN = re.compile(r"[\n -$'-)+-=@-\[\]-{}~\u00a1-\u024f]*")
# A value that touches its key's colon, on which YAML 1.1 and 1.2 differ; and a line that ends a document.
_READ_DIFFERENTLY = re.compile(r"""["'\]}]:[^ \n]|^---|^\.\.\.""", re.MULTILINE)

# The way from the root to a value: keys of tables, indexes of lists.
Way = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, counted from 1."""

    line: int
    column: int


START = Place(1, 1)


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar; `text` is None where nothing was written."""

    place: Place
    text: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    place: Place
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    place: Place
    value: "Node"


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping, its keys each once and in the order of the file."""

    place: Place
    entries: tuple[Entry, ...]

    def entry(self, key: str | int) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key), None)


Node = Text | Listing | Table


def plain(node: Node) -> Any:
    """The tree without places: dicts, lists, texts and None."""
    match node:
        case Text(_, text):
            return text
        case Listing(_, items):
            return [plain(item) for item in items]
        case Table(_, entries):
            return {entry.key: plain(entry.value) for entry in entries}


def find(node: Node, way: Way) -> Node | None:
    """The value at the end of `way`, None where the file has none."""
    for step in way:
        match node:
            case Listing(_, items) if isinstance(step, int) and step < len(items):
                node = items[step]
            case Table() if entry := node.entry(step):
                node = entry.value
            case _:
                return None
    return node


def place_of(node: Node, way: Way) -> Place:
    """Where the value at the end of `way` stands, or the nearest thing around it that the file has."""
    while way:
        found = find(node, way)
        if found is not None:
            return found.place
        way = way[:-1]
    return node.place


def place_of_key(node: Node, way: Way) -> Place:
    """Where the last key of `way` stands, or the nearest thing around it that the file has."""
    table = find(node, way[:-1])
    entry = table.entry(way[-1]) if isinstance(table, Table) else None
    return entry.place if entry else place_of(node, way)


def without(node: Node, ways: frozenset[Way]) -> Node:
    """The tree without the entries and items at the ends of `ways`."""
    inner: dict[str | int, set[Way]] = {}
    for way in ways:
        inner.setdefault(way[0], set()).add(way[1:])
    match node:
        case Text():
            return node
        case Listing(place, items):
            kept = (
                without(item, frozenset(inner.get(index, ())))
                for index, item in enumerate(items)
                if () not in inner.get(index, ())
            )
            return Listing(place, tuple(kept))
        case Table(place, entries):
            left = (
                Entry(entry.key, entry.place, without(entry.value, frozenset(inner.get(entry.key, ()))))
                for entry in entries
                if () not in inner.get(entry.key, ())
            )
            return Table(place, tuple(left))


def read_tree(file: Path, content: bytes) -> tuple[Table | None, list[Mistake]]:
    """The table that a YAML file holds, and the mistakes that keep it or parts of it from being read.

    An empty file is an empty table; None where the file cannot be read as YAML at all.
    """
    if len(content) > BYTES_MAX:
        return None, [Mistake(file, 1, 1, f"the file has {len(content)} bytes; at most {BYTES_MAX} are read")]
    text, torn = decode(file, content)
    if torn is not None:
        return None, [torn]
    tree = quick_tree(file, text)
    return (tree, []) if tree is not None else full_tree(file, text)


def full_tree(file: Path, text: str) -> tuple[Table | None, list[Mistake]]:
    """As `read_tree`, of any text, with every mistake."""
    builder = _Builder(file)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            if not builder.take(event):
                break
    except ReaderError as error:
        place = _place_at(text, error.position if isinstance(error.position, int) else 0)
        message = f"the character {shown(_character(error.character))} cannot stand in YAML; take it out"
        return None, [*builder.mistakes, Mistake(file, place.line, place.column, message)]
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else START
        what = " ".join(str(error.problem or error.context or "unreadable").split())
        return None, [*builder.mistakes, Mistake(file, place.line, place.column, f"this is not YAML: {what}")]
    # The parser meets some malformed escapes with Python's own errors, of any kind and without a place; a file that a
    # clerk saves must never stop the gateway.
    except Exception as error:
        what, place = shown(" ".join(str(error).split())), builder.place
        return None, [
            *builder.mistakes,
            Mistake(file, place.line, place.column, f"this or what follows is not YAML: {what}"),
        ]
    match builder.root:
        case Table() as table:
            return table, builder.mistakes
        case None | Text(_, None):
            return Table(START, ()), builder.mistakes
        case other:
            message = f"the file holds {shown(plain(other))}; expected keys with values, one a line, as `name: value`"
            place = other.place
            return None, [*builder.mistakes, Mistake(file, place.line, place.column, message)]


def decode(file: Path, content: bytes) -> tuple[str, Mistake | None]:
    """The text of a file in UTF-8, with or without a byte order mark."""
    content = content.removeprefix(BOM_UTF8)
    try:
        return content.decode("utf-8"), None
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        place = _place_at(before, len(before))
        message = f"the byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        return "", Mistake(file, place.line, place.column, message)


def quick_tree(file: Path, text: str) -> Table | None:
    """The table of a text that is plainly written and has no mistake, as `full_tree` has it; of any other None."""
    if not _PLAINLY_WRITTEN.fullmatch(text) or _READ_DIFFERENTLY.search(text):
        return None
    builder, parser = _Builder(file), CParser(text)
    try:
        while parser.check_event():
            event = parser.get_event()
            if type(event) is not ScalarEvent:
                if not builder.take(event):
                    return None
            # The parsers do not agree on where nothing stands.
            elif event.tag is not None or (not event.style and event.value in _NOTHING):
                return None
            else:
                mark = event.start_mark
                builder.put(Text(Place(mark.line + 1, mark.column + 1), event.value))
    # Whatever libyaml finds wrong is found and said by the other parser.
    except Exception:
        return None
    return builder.root if isinstance(builder.root, Table) and not builder.mistakes else None


def _place_at(text: str, index: int) -> Place:
    """The place of a character, lines counted as YAML 1.2 counts them."""
    line, column = 1, 1
    for position, character in enumerate(text[:index]):
        follows = text[position + 1 : position + 2]
        if character == "\n" or (character == "\r" and follows != "\n"):
            line, column = line + 1, 1
        else:
            column += 1
    return Place(line, column)


def _character(value: object) -> str:
    return chr(value) if isinstance(value, int) else str(value)


class _Builder:
    """Puts the parser's events together; containers that are still open are on the stack, never on Python's own."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.root: Node | None = None
        self.mistakes: list[Mistake] = []
        self.place = START
        self._open: list[_OpenListing | _OpenTable] = []
        self._documents = 0

    def take(self, event: Event) -> bool:
        """Take one event; False when the rest of the file is not worth reading."""
        mark = event.start_mark
        place = self.place = Place(mark.line + 1, mark.column + 1)
        match event:
            case ScalarEvent():
                if event.tag is not None:
                    self._tag(event.tag, place)
                is_nothing = not event.style and event.value in _NOTHING
                self.put(Text(place, None if is_nothing else event.value))
            case DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._wrong(place, "a second document starts here; one file holds one")
                    return False
                # Older versions count lines otherwise, and what they read `no` and `10:30` as is why nobody wants them.
                if event.version is not None or event.tags:
                    self._wrong(place, "directives (%YAML, %TAG) are not taken; leave them out")
                    return False
            case AliasEvent():
                self._wrong(place, f"the alias {shown('*' + str(event.anchor))} is not taken; write the value out")
                self.put(Text(place, None))
            case SequenceStartEvent() | MappingStartEvent():
                self._tag(event.tag, place)
                if len(self._open) == DEPTH_MAX:
                    self._wrong(place, f"more than {DEPTH_MAX} levels; these files have five at most")
                    self.root = Table(START, ())
                    return False
                is_table = isinstance(event, MappingStartEvent)
                self._open.append(_OpenTable(place) if is_table else _OpenListing(place))
            case SequenceEndEvent() | MappingEndEvent():
                self.put(self._open.pop().closed())
            case _:
                pass
        return True

    def _tag(self, tag: object, place: Place) -> None:
        # "!" alone is the parser's own mark for a text in quotes.
        if tag is not None and str(tag) != "!":
            self._wrong(place, f"the tag {shown(tag)} is not taken; write the value without it")

    def put(self, node: Node) -> None:
        """Take a value that is whole."""
        if not self._open:
            self.root = node
            return
        mistake = self._open[-1].put(node)
        if mistake:
            self._wrong(node.place, mistake)

    def _wrong(self, place: Place, message: str) -> None:
        self.mistakes.append(Mistake(self.file, place.line, place.column, message))


class _OpenListing:
    def __init__(self, place: Place) -> None:
        self._place = place
        self._items: list[Node] = []

    def put(self, node: Node) -> str | None:
        self._items.append(node)
        return None

    def closed(self) -> Node:
        return Listing(self._place, tuple(self._items))


class _OpenTable:
    def __init__(self, place: Place) -> None:
        self._place = place
        self._entries: dict[str, Entry] = {}
        self._key: tuple[str, Place] | None = None
        self._is_at_key = True

    def put(self, node: Node) -> str | None:
        """Take a key or a value in turn; what is wrong with the key, if anything."""
        self._is_at_key = not self._is_at_key
        if self._is_at_key:
            if self._key is not None:
                key, place = self._key
                self._entries[key] = Entry(key, place, node)
            return None
        self._key = None
        if not isinstance(node, Text) or node.text is None:
            return f"the key is {shown(plain(node))}; expected a name"
        earlier = self._entries.get(node.text)
        if earlier is not None:
            line = earlier.place.line
            return f"the key {shown(node.text)} stands on line {line} already; keep one of the two"
        self._key = node.text, node.place
        return None

    def closed(self) -> Node:
        return Table(self._place, tuple(self._entries.values()))
