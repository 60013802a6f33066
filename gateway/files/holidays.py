"""Italy's national holidays as dates with their Italian names."""

from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache

from holidays import country_holidays

# School years that are in use at one time: this one, the next, and a few that somebody looks up.
YEARS_KEPT = 16


def national_holidays(years: Iterable[int]) -> Mapping[date, str]:
    """The national holidays of these years; where two fall on one date, both names.

    From 2026 on 4 October is one again (law 151 of 8 October 2025). The patron saint's day is the municipality's own.
    Towns with the same school year share one value.
    """
    return _holidays(tuple(years))


@lru_cache(maxsize=YEARS_KEPT)
def _holidays(years: tuple[int, ...]) -> Mapping[date, str]:
    found = country_holidays("IT", years=list(years), language="it_IT")
    return {day: "; ".join(sorted(found.get_list(day))) for day in sorted(found)}
