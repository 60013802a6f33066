"""A town's files as they stand: read at one moment, and each made into its shape as far as it is right."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Generic, TypeVar

from gateway.files.mistakes import Mistake
from gateway.files.shapes import Shape
from gateway.files.shaping import shape
from gateway.files.tree import BYTES_MAX, START, Table, Way, place_of, read_tree

MUNICIPALITY, SCHOOLS, CALENDAR, PEOPLE = "municipality.yaml", "schools.yaml", "calendar.yaml", "people.csv"
TOWN_FILES = (MUNICIPALITY, SCHOOLS, CALENDAR)


@dataclass(frozen=True, slots=True)
class TownFiles:
    """A town's files as they were read at one moment; in place of a file that could not be read, the reason."""

    folder: Path
    contents: Mapping[str, bytes | str]
    people: Path | None = None

    @property
    def digest(self) -> bytes:
        """A hash of all that was read: what is to be remembered of files by the thousand."""
        hashed = blake2b(b"people" if self.people else b"", digest_size=16)
        for name, content in self.contents.items():
            said = content if isinstance(content, bytes) else content.encode()
            hashed.update(f"\n{name} {type(content).__name__} {len(said)}\n".encode())
            hashed.update(said)
        return hashed.digest()


@dataclass(frozen=True, slots=True)
class Look:
    """A town's files as they were looked at: `signature` before reading, `digest` of what was read."""

    signature: int
    digest: bytes


def signature(folder: str) -> int:
    """Something that changes when a town's files do, without reading them; good within one process."""
    return hash(tuple(_signature(f"{folder}/{name}") for name in TOWN_FILES))


def _signature(file: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_town_files(folder: Path) -> TownFiles:
    """What the files of a town's folder hold now."""
    people = folder / PEOPLE
    # `os.path.exists` takes what this user may not look at for missing, where `Path.exists` gives up.
    return TownFiles(
        folder,
        {name: read_bytes(folder / name, opener=_without_waiting) for name in TOWN_FILES},
        people if os.path.exists(people) else None,
    )


def read_bytes(file: Path, bytes_max: int = BYTES_MAX, opener: Callable[[str, int], int] | None = None) -> bytes | str:
    """What a file holds, one byte past the limit at most, or the reason why it cannot be read."""
    try:
        with open(file, "rb", opener=opener) as stream:
            return stream.read(bytes_max + 1)
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()


def _without_waiting(file: str, flags: int) -> int:
    """A pipe that nobody writes into is empty: one town's would keep all others waiting for ever."""
    return os.open(file, flags | os.O_NONBLOCK)


FileShape = TypeVar("FileShape", bound=Shape)


@dataclass(frozen=True, slots=True)
class Source(Generic[FileShape]):
    """One file: all that stands in it (None where it is no YAML), and what of it is right."""

    file: Path
    tree: Table | None
    right: Table
    shape: FileShape

    def mistake(self, way: Way, message: str) -> Mistake:
        place = place_of(self.right, way)
        return Mistake(self.file, place.line, place.column, message)

    def where(self, way: Way) -> str:
        return f"{self.file.name}:{place_of(self.right, way).line}"


def shaped_file(files: TownFiles, name: str, model: type[FileShape], mistakes: list[Mistake]) -> Source[FileShape]:
    """One file of the town in its shape; what is wrong with it is added to `mistakes`."""
    file, content = files.folder / name, files.contents[name]
    if isinstance(content, str):
        mistakes.append(Mistake(file, 1, 1, f"the file cannot be read: {content}; expected {', '.join(TOWN_FILES)}"))
        return Source(file, None, Table(START, ()), model())
    tree, unread = read_tree(file, content)
    mistakes += unread
    if tree is None:
        return Source(file, None, Table(START, ()), model())
    shaped, right, wrong = shape(model, file, tree)
    mistakes += wrong
    return Source(file, tree, right, shaped)
