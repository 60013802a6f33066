"""Italy's national holidays as dates with their Italian names."""

from collections.abc import Iterable
from datetime import date

from holidays import country_holidays


def national_holidays(years: Iterable[int]) -> dict[date, str]:
    """The national holidays of these years; where two fall on one date, both names.

    From 2026 on 4 October is one again (law 151 of 8 October 2025). The patron saint's day is the municipality's own.
    """
    found = country_holidays("IT", years=list(years), language="it_IT")
    return {day: "; ".join(sorted(found.get_list(day))) for day in sorted(found)}
