"""What /health says of towns: little, however many there are."""

from dataclasses import replace
from pathlib import Path

from gateway.files.load import Configuration, load_configuration
from gateway.files.mistakes import Mistake
from gateway.files.watch import TownsInForce
from gateway.web.health import MISTAKES_SHOWN_MAX, TOWNS_SHOWN_MAX, town_health, towns_health
from tests.town_files import write_town


def towns(folder: Path, broken: int) -> TownsInForce:
    """`borgo` in force, and so many that have never been, with fifty mistakes each."""
    write_town(folder / "municipalities" / "borgo")
    configuration = load_configuration(folder)
    assert isinstance(configuration, Configuration)
    mistakes = tuple(Mistake(Path("calendar.yaml"), line, 1, "a mistake") for line in range(1, 51))
    refused = {f"comune-{number:04}": mistakes for number in range(broken)}

    async def nobody(_: object) -> dict[tuple[str, str], int]:
        return {}

    return TownsInForce(replace(configuration, broken=refused), nobody, lambda edit: None)


def test_where_all_is_well_no_town_is_named(tmp_path: Path) -> None:
    assert towns_health(towns(tmp_path, 0)) == {"calendars": None}


def test_of_thousands_of_broken_towns_the_first_are_named_and_all_are_counted(tmp_path: Path) -> None:
    parts = towns_health(towns(tmp_path, 8_000))

    assert parts["calendars"] == f"8000 towns have mistakes in their files; the first {TOWNS_SHOWN_MAX} are named"
    assert parts["calendar:comune-0000"] == "50 mistakes in its files; the town is not served"
    assert len(parts) == 1 + TOWNS_SHOWN_MAX


def test_one_town_is_told_with_its_hash_or_with_its_first_mistakes(tmp_path: Path) -> None:
    here = towns(tmp_path, 1)
    borgo = here.municipalities.named("borgo")
    assert borgo is not None

    broken = town_health(here, "comune-0000")

    assert town_health(here, "borgo") == {"town": "borgo", "served": True, "configuration": borgo.digest[:12]}
    assert broken["served"] is False
    assert broken["mistakes"] == [f"calendar.yaml:{line}:1: a mistake" for line in range(1, MISTAKES_SHOWN_MAX + 1)]
    assert town_health(here, "altrove") == {"town": "altrove", "served": False}
