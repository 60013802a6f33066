"""The order as a mail's subject and text, and as the table that a kitchen's own programs read."""

import csv
import io
from collections.abc import Iterator

from core.changes import Presence
from gateway.post.order import Meals, Order
from gateway.post.wording import NO_NAME, copy_words, day_words, kind_words, late_words, meals_words, said, time_words

CSV_COLUMNS = ("ordine", "copia", "giorno", "comune", "scuola", "classe", "tipo", "dieta", "pasti")
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t")


def one_line(words: str) -> str:
    """Without line ends and control characters, with which a name could write headers of its own."""
    return " ".join("".join(each if each.isprintable() else " " for each in words).split())


def subject(order: Order) -> str:
    """What a cook sees before opening it: whether it is late or a copy, number, day, meals, town."""
    marks = [mark for mark in (copy_words(order), "IN RITARDO" if order.is_late else None) if mark]
    told = f"Ordine {order.number}, {day_words(order.day)}: {meals_words(order.total)}, {order.municipality}"
    return one_line(" - ".join([*marks, told]))


def text(order: Order, has_sheet: bool) -> str:
    """For a terminal and for ears: short lines, one fact each, nothing drawn with characters."""
    return "\n".join(_lines(order, has_sheet)) + "\n"


def _lines(order: Order, has_sheet: bool) -> Iterator[str]:
    copy, late = copy_words(order), late_words(order)
    if copy:
        yield f"{copy} dell'ordine {order.number}, già inviato: non è un ordine in più."
        yield ""
    if late:
        yield from late.split(" I numeri", 1)[:1]
        yield f"I numeri valgono come alle {time_words(order.cutoff)}."
        yield ""
    yield f"Ordine {order.number}" + (f" per {one_line(order.kitchen)}" if order.kitchen else "")
    yield one_line(order.municipality)
    yield day_words(order.day).capitalize()
    yield ""
    yield f"TOTALE: {meals_words(order.total)}"
    yield from _parts(order.meals)
    for school in order.schools:
        yield ""
        yield f"{one_line(school.name)}: {meals_words(school.total)}"
        if len(order.schools) > 1:
            yield from _parts(school.meals)
        for group in school.classes:
            parts = ", ".join(said(each) for each in group.meals)
            is_plain = all(each.kind is Presence.PRESENT and each.diet is None for each in group.meals)
            yield f"  Classe {group.name}: {meals_words(group.total)}" + ("" if is_plain else f" ({parts})")
    yield ""
    yield f"Numeri definitivi: orario limite {time_words(order.cutoff)}, chiuso alle {order.closed:%H:%M:%S}."
    if has_sheet:
        yield "In allegato: il foglio da appendere (PDF) e la tabella per Excel (CSV)."
    else:
        yield "In allegato: la tabella per Excel (CSV). Questa volta il foglio PDF manca."
    if order.trays:
        yield "La lista vassoi, con i nomi, è un allegato a parte: è riservata alla cucina."


def _parts(meals: tuple[Meals, ...]) -> Iterator[str]:
    if len(meals) > 1 or any(each.diet or each.kind is Presence.BLAND for each in meals):
        for each in meals:
            yield f"  {said(each)}"


def table(order: Order) -> bytes:
    """The counts as CSV for Excel as it stands in Italy.

    Semicolons, because there the comma is the decimal sign; a byte order mark, without which Excel takes UTF-8 for an older code.
    A class group in which nobody eats has its row too.
    """
    written = io.StringIO(newline="")
    rows = csv.writer(written, delimiter=";", lineterminator="\r\n")
    rows.writerow(CSV_COLUMNS)
    for school in order.schools:
        for group in school.classes:
            for each in group.meals or (Meals(Presence.PRESENT, None, 0),):
                kind = "in bianco" if each.kind is Presence.BLAND else "normale"
                cells = (order.municipality, school.name, group.name, kind, each.diet or "")
                rows.writerow((order.number, order.copy or "", order.day.isoformat(), *map(_cell, cells), each.count))
    return b"\xef\xbb\xbf" + written.getvalue().encode()


def _cell(words: str) -> str:
    plain = one_line(words)
    return f"'{plain}" if plain.startswith(_FORMULA) else plain


def tray_text(order: Order) -> str:
    """The tray list in plain text, for when its PDF cannot be made: the meals must find their pupils all the same."""
    heading = f"Lista vassoi, ordine {order.number}, {day_words(order.day)}"
    lines = [
        f"{one_line(each.school)}, classe {each.class_group}: {one_line(each.name or NO_NAME)}, "
        f"{kind_words(each.kind, each.diet)}"
        for each in order.trays
    ]
    return "\n".join([heading, "", *lines]) + "\n"
