"""The order in words: its subject, its text, its table, its tray list."""

import csv
import io
from datetime import timedelta

import pytest

from core.headcount import Tray
from core.people import Pupil, PupilId, UserCode
from gateway.post.letter import subject, table, text, tray_text
from gateway.post.mail import message_id
from gateway.post.order import NoSuchOrderError, Order, order_of, read_order
from gateway.store.memory import MemoryStore
from tests.orders import BLAND, BORGO, closed, closing, meals, municipality, tray
from tests.store_people import enrolled, guardian, people, pupil

INFANZIA = (meals("Blu", 12), meals("Blu", 1, BLAND, "C"))


def order(*closings: object, **others: object) -> Order:
    return order_of(municipality(), closings or (closing(),), **others)  # type: ignore[arg-type]  # as order_of's


def rows(of: Order) -> list[list[str]]:
    return list(csv.reader(io.StringIO(table(of).decode("utf-8-sig")), delimiter=";"))


def test_the_text_says_the_totals_then_each_school_and_class_a_fact_a_line() -> None:
    told = text(order(closing("primaria"), closing("infanzia", *INFANZIA)), has_sheet=True)

    assert told.splitlines() == [
        "Ordine 1 per Centro cottura",
        "Comune di Borgo",
        "Martedì 24 novembre 2026",
        "",
        "TOTALE: 54 pasti",
        "  50 normali",
        "  1 in bianco",
        "  2 dieta C",
        "  1 dieta C in bianco",
        "",
        "Scuola primaria: 41 pasti",
        "  38 normali",
        "  1 in bianco",
        "  2 dieta C",
        "  Classe 1A: 23 pasti (20 normali, 1 in bianco, 2 dieta C)",
        "  Classe 3B: 18 pasti",
        "",
        "Scuola dell'infanzia: 13 pasti",
        "  12 normali",
        "  1 dieta C in bianco",
        "  Classe Blu: 13 pasti (12 normali, 1 dieta C in bianco)",
        "",
        "Numeri definitivi: orario limite 09:30, chiuso alle 09:30:04.",
        "In allegato: il foglio da appendere (PDF) e la tabella per Excel (CSV).",
    ]


def test_the_table_has_a_row_for_each_class_kind_and_diet_and_for_a_class_where_nobody_eats() -> None:
    found = rows(order(closing("primaria", meals("1A", 20), meals("1A", 1, BLAND), class_groups=("1A", "3B"))))

    assert found == [
        ["ordine", "copia", "giorno", "comune", "scuola", "classe", "tipo", "dieta", "pasti"],
        ["1", "", "2026-11-24", "Comune di Borgo", "Scuola primaria", "1A", "normale", "", "20"],
        ["1", "", "2026-11-24", "Comune di Borgo", "Scuola primaria", "1A", "in bianco", "", "1"],
        ["1", "", "2026-11-24", "Comune di Borgo", "Scuola primaria", "3B", "normale", "", "0"],
    ]


@pytest.mark.parametrize("formula", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)"])
def test_no_name_becomes_a_formula(formula: str) -> None:
    [_, row] = rows(order_of(municipality(name=formula), [closing("primaria", meals("1A", 1, diet=formula))]))

    assert (row[3], row[7]) == (f"'{formula}", f"'{formula}")


def test_R25_a_late_closing_says_that_it_is_late_and_as_of_when_it_counts() -> None:
    late = order(closing(late=timedelta(hours=2, minutes=10)))
    next_day = order(closing(late=timedelta(days=1)))

    assert subject(late).startswith("IN RITARDO - Ordine 1, ")
    assert "chiuso alle 11:40 invece delle 09:30." in text(late, has_sheet=True)
    assert "I numeri valgono come alle 09:30." in text(late, has_sheet=True)
    assert "chiuso mercoledì 25 novembre 2026 alle 09:30 invece delle 09:30." in text(next_day, has_sheet=True)
    assert "RITARDO" not in text(order(), has_sheet=True) + subject(order())


def test_one_meal_is_one_and_none_is_said() -> None:
    one = text(order(closing("primaria", meals("1A", 1))), has_sheet=True)
    none = text(order(closing("primaria", meals("1A", 0))), has_sheet=True)

    assert "TOTALE: 1 pasto\n" in one
    assert "TOTALE: 0 pasti\n" in none


def test_the_message_id_is_the_orders_own_and_another_orders_is_another() -> None:
    first, again = order(), order()
    other_counts = order(closing("primaria", meals("1A", 7)))
    copy = order(copy=1)

    ids = [message_id(each, "mensa@example.org") for each in (first, again, other_counts, copy)]

    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert ids[0] == f"<order-1.{first.fingerprint}.borgo@example.org>"


def test_a_school_that_left_the_files_keeps_its_key() -> None:
    assert order(closing("chiusa")).schools[0].name == "chiusa"


def pupils_of(*names: tuple[str, str]) -> list[Pupil]:
    return [
        Pupil(PupilId(number), UserCode(f"5000{number}"), name, surname, "primaria", "1A")
        for number, (name, surname) in enumerate(names, start=1)
    ]


def test_a_tray_names_its_pupil_by_an_initial_only_where_that_is_enough() -> None:
    those = pupils_of(("Anna", "Verdini"), ("Anna", "Valle"), ("Bruno", "Montalto"))
    trays = [("primaria", tray(each.id)) for each in (those[0], those[2])]

    told = order_of(municipality(trays=frozenset("C")), [closing()], trays, those)

    # Another Anna V. sits in the same class, though she has no tray.
    assert [each.name for each in told.trays] == ["Anna Verdini", "Bruno M."]


async def test_names_stand_on_the_tray_list_alone_and_only_for_the_diets_that_need_it() -> None:
    store = MemoryStore()
    anna, bruno = await enrolled(
        store.at(BORGO), people((guardian(),), pupil("50001", 0), pupil("50002", 0, name="Bruno"))
    )
    those = (Tray(anna.id, "1A", BLAND, "C"), Tray(bruno.id, "1A", BLAND, "SG"))
    await closed(store, closing(trays=those))

    told = await read_order(municipality(trays=frozenset({"C"})), store.at(BORGO), 1)

    assert [(each.name, each.diet) for each in told.trays] == [("Anna V.", "C")]
    assert "Scuola primaria, classe 1A: Anna V., dieta C in bianco" in tray_text(told)
    everything_else = text(told, has_sheet=True) + table(told).decode() + subject(told)
    assert "Anna" not in everything_else
    assert "riservata alla cucina" in everything_else


async def test_a_pupil_who_was_erased_has_a_tray_and_no_name() -> None:
    store = MemoryStore()
    anna, _ = await enrolled(store.at(BORGO))
    await closed(store, closing(trays=(tray(anna.id),)))
    await store.at(BORGO).erase_pupil(anna.id)

    told = await read_order(municipality(trays=frozenset({"C"})), store.at(BORGO), 1)

    assert [each.name for each in told.trays] == [None]
    assert "(nome non più disponibile), dieta C" in tray_text(told)


async def test_an_order_that_no_closing_made_is_none() -> None:
    with pytest.raises(NoSuchOrderError, match="borgo: there is no order 7"):
        await read_order(municipality(), MemoryStore().at(BORGO), 7)
