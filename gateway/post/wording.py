"""The order in a cook's Italian: days, meals, kinds and diets."""

from datetime import date, datetime

from core.changes import Presence
from gateway.post.order import Meals, Order

WEEKDAYS = ("lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica")
MONTHS = (
    *("gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno"),
    *("luglio", "agosto", "settembre", "ottobre", "novembre", "dicembre"),
)
NO_NAME = "(nome non più disponibile)"


def day_words(day: date) -> str:
    """`martedì 24 novembre 2026`; the first of a month is an ordinal."""
    number = "1º" if day.day == 1 else str(day.day)
    return f"{WEEKDAYS[day.weekday()]} {number} {MONTHS[day.month - 1]} {day.year}"


def meals_words(count: int) -> str:
    return f"{count} pasto" if count == 1 else f"{count} pasti"


def kind_words(kind: Presence, diet: str | None, count: int = 2) -> str:
    """What a plate is: `normali`, `in bianco`, `dieta C`, `dieta C in bianco`."""
    is_bland = kind is Presence.BLAND
    if diet is not None:
        return f"dieta {diet} in bianco" if is_bland else f"dieta {diet}"
    if is_bland:
        return "in bianco"
    return "normale" if count == 1 else "normali"


def said(meals: Meals) -> str:
    """`3 in bianco`."""
    return f"{meals.count} {kind_words(meals.kind, meals.diet, meals.count)}"


def late_words(order: Order) -> str | None:
    """When the day was closed, where that was long after the cutoff."""
    if not order.is_late:
        return None
    on = "" if order.closed.date() == order.cutoff.date() else f"{day_words(order.closed.date())} "
    return (
        f"IN RITARDO: chiuso {on}alle {time_words(order.closed)} invece delle {time_words(order.cutoff)}. "
        f"I numeri valgono come alle {time_words(order.cutoff)}."
    )


def copy_words(order: Order) -> str | None:
    return None if order.copy is None else f"COPIA n. {order.copy}"


def time_words(instant: datetime) -> str:
    return f"{instant:%H:%M}"
