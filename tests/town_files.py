"""A small invented town on disk, to be edited by the tests of the files."""

from pathlib import Path

from gateway.files.load import load_town
from gateway.files.mistakes import Mistake
from gateway.municipality import Municipality

MUNICIPALITY = """\
name: Comune di Borgo
numbers: ["0350000200"]
user_code_digits: 5
"""
SCHOOLS = """\
schools:
  primaria:
    name: Scuola primaria
    cutoff: "09:30"
    classes:
      1A: [mon, tue, wed, thu, fri]
      3B: [mon, thu]
  infanzia:
    name: Scuola dell'infanzia
    cutoff: "09:00"
    service: 2026-09-21..2027-06-30
    classes:
      Girasoli: [mon, tue, wed, thu, fri]
"""
CALENDAR = """\
year: 2026/2027
service: 2026-09-14..2027-06-08
patron: 2026-11-11
exceptions:
  - {closed: 2026-12-23..2027-01-06, why: Vacanze di Natale}
  - {closed: 2026-11-26, why: Gita, class: primaria/3B}
cutoffs:
  - {date: 2026-11-27, at: "08:30", why: Sciopero, school: primaria}
"""


def write_town(folder: Path, **files: str) -> Path:
    """A town's folder; `municipality`, `schools`, `calendar` and `people` replace what stands in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"municipality": MUNICIPALITY, "schools": SCHOOLS, "calendar": CALENDAR, **files}
    for name, text in texts.items():
        (folder / f"{name}{'.csv' if name == 'people' else '.yaml'}").write_text(text, encoding="utf-8")
    return folder


def loaded(folder: Path) -> Municipality:
    """The town, which has no mistakes."""
    town = load_town(folder)
    assert isinstance(town, Municipality), "\n".join(map(str, town))
    return town


def said(mistakes: object) -> list[str]:
    """Mistakes as `file:line:column: message`, the file by its name alone."""
    assert isinstance(mistakes, tuple), mistakes
    assert all(isinstance(each, Mistake) for each in mistakes)
    return [f"{each.file.name}:{each.line}:{each.column}: {each.message}" for each in mistakes]
