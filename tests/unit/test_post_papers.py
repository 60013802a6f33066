"""The papers as PDFs: one page however much stands on it, nothing cut off, the same for the same order."""

import ctypes
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pypdfium2
import pytest

from core.calendar import ServiceCalendar
from core.people import ClassGroup, School
from gateway.post.order import NamedTray, Order, order_of
from gateway.post.papers import Paper, sheet, tray_list
from gateway.post.press import pdf
from gateway.post.printing import Press, PrintingError
from tests.orders import BLAND, PRESENT, closing, meals, municipality
from tests.towns import HOLIDAYS, PRIMARIA, ROME, SCHOOL_YEAR, town

A4 = (pytest.approx(595.28, abs=0.1), pytest.approx(841.89, abs=0.1))


def printed(paper: Paper) -> pypdfium2.PdfDocument:
    return pypdfium2.PdfDocument(pdf([(each.html, each.sizes, each.first) for each in paper.layouts], paper.pages_max))


def words(document: pypdfium2.PdfDocument, page: int = 0) -> str:
    return " ".join(document[page].get_textpage().get_text_range().split())


def order(schools: int, classes: int, name: str = "Scuola primaria Via delle Rose", **others: object) -> Order:
    keys = [f"s{number:03}" for number in range(schools)]
    groups = [f"{number % 5 + 1}{chr(65 + number // 5)}" for number in range(classes)]
    calendar = ServiceCalendar(
        ROME,
        SCHOOL_YEAR,
        {key: School(key, f"{name} {place}", PRIMARIA.cutoff) for place, key in enumerate(keys, start=1)},
        {(key, group): ClassGroup(key, group, frozenset(range(5))) for key in keys for group in groups},
        HOLIDAYS,
        None,
        (),
        (),
    )
    counts = [meals(group, 20) for group in sorted(groups)]
    special = [meals(groups[0], 3, BLAND), meals(groups[0], 2, diet="C"), meals(groups[0], 1, BLAND, "SG")]
    closings = [closing(key, *counts, *special, order=12) for key in keys]
    return order_of(municipality(town=town(calendar)), closings, **others)  # type: ignore[arg-type]  # as order_of's


def assert_nothing_is_cut_off(document: pypdfium2.PdfDocument) -> None:
    page = document[0]
    width, height = page.get_size()
    text = page.get_textpage()
    for index in range(text.count_chars()):
        if not text.get_text_range(index, 1).strip():
            continue
        left, bottom, right, top = text.get_charbox(index)
        assert left >= 0, text.get_text_range(index, 5)
        assert bottom >= 0, text.get_text_range(index, 5)
        assert right <= width, text.get_text_range(index, 5)
        assert top <= height, text.get_text_range(index, 5)


@pytest.mark.parametrize(
    ("schools", "classes", "says"),
    [
        (1, 5, "5A"),
        (3, 5, "5A"),
        (3, 25, "5E"),
        (3, 50, "classi sono nella tabella CSV"),
        (12, 8, "classi sono nella tabella CSV"),
        (40, 10, "classi sono nella tabella CSV"),
        (500, 2, "Le 500 scuole e le classi sono nella tabella CSV"),
    ],
)
def test_the_order_is_one_page_of_A4_however_many_schools_and_classes(schools: int, classes: int, says: str) -> None:
    told = order(schools, classes, copy=3)

    document = printed(sheet(told))

    assert (len(document), document[0].get_size()) == (1, A4)
    assert_nothing_is_cut_off(document)
    shown = words(document)
    assert says in shown
    for figure in (f"{told.total}", "Ordine 12", "Martedì 24 novembre 2026", "COPIA n. 3"):
        assert figure in shown
    for each in told.meals:
        assert str(each.count) in shown


@pytest.mark.parametrize("name", ["W" * 95, "Scuola " + "lunghissima " * 7, "<script>alert(1)</script><b>&amp;"])
@pytest.mark.parametrize("schools", [1, 2, 9])
def test_a_long_or_cunning_name_is_printed_as_it_is_and_cuts_nothing_off(name: str, schools: int) -> None:
    document = printed(sheet(order(schools, 4, name)))

    assert len(document) == 1
    assert_nothing_is_cut_off(document)
    assert name.strip()[:8] in words(document).replace(" ", "" if " " not in name else " ")


def test_figures_of_a_small_town_are_read_from_two_metres() -> None:
    page = printed(sheet(order(2, 5)))[0]
    text = page.get_textpage()

    tall_mm = []
    for index in range(text.count_chars()):
        _, bottom, _, top = text.get_charbox(index)
        if text.get_text_range(index, 1).isdigit():
            tall_mm.append((top - bottom) / 72 * 25.4)

    # A centimetre is read from two metres with ease, half of it is read; totals and kinds are of these sizes.
    assert max(tall_mm) > 18
    assert sum(tall >= 10 for tall in tall_mm) >= 6
    assert sum(tall >= 7 for tall in tall_mm) >= 12


def test_the_same_order_is_the_same_file_in_every_process() -> None:
    program = (
        "import hashlib; from tests.unit.test_post_papers import *; p = sheet(order(3, 5));"
        "print(hashlib.sha256(pdf([(e.html, e.sizes, e.first) for e in p.layouts], 1)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1


def test_the_page_has_its_title_language_and_structure() -> None:
    document = printed(sheet(order(1, 5)))

    assert document.get_metadata_dict()["Title"] == "Ordine 12 - Comune di Borgo - martedì 24 novembre 2026"
    assert document.is_tagged()
    language = ctypes.create_unicode_buffer(20)
    pypdfium2.raw.FPDFCatalog_GetLanguage(document, ctypes.cast(language, ctypes.POINTER(ctypes.c_ushort)), 40)
    assert bytes(language).decode("utf-16-le", "ignore").startswith("it")


def test_R25_a_late_closing_says_so_on_the_page() -> None:
    late = order_of(municipality(), [closing(late=timedelta(hours=2, minutes=10))])

    assert "IN RITARDO: chiuso alle 11:40 invece delle 09:30." in words(printed(sheet(late)))


def test_the_tray_list_takes_as_many_pages_as_it_has_names() -> None:
    trays = tuple(NamedTray("Scuola primaria", "1A", f"Anna {number}", PRESENT, "C") for number in range(100))
    told = order(1, 1)
    told = Order(**{name: getattr(told, name) for name in Order.__slots__} | {"trays": trays})

    document = printed(tray_list(told))

    assert len(document) > 2
    assert "Anna 0 dieta C" in words(document)
    assert "Anna 99 dieta C" in words(document, len(document) - 1)
    assert "Anna" not in words(printed(sheet(told)))


async def test_the_press_prints_in_a_process_of_its_own_and_another_after_that_was_ended() -> None:
    press = Press()
    paper = sheet(order(1, 2))
    try:
        first = await press.print(paper)
        await press.close()
        second = await press.print(paper)
    finally:
        await press.close()

    assert first == second
    assert first.startswith(b"%PDF-")


async def test_a_paper_that_takes_too_long_is_given_up_and_the_next_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    press = Press()
    monkeypatch.setattr("gateway.post.printing.PRINT_S", 0.001)
    try:
        with pytest.raises(PrintingError, match="took longer"):
            await press.print(sheet(order(1, 2)))
        monkeypatch.setattr("gateway.post.printing.PRINT_S", 60)
        assert (await press.print(sheet(order(1, 2)))).startswith(b"%PDF-")
    finally:
        await press.close()
