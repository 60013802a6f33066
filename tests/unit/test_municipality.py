"""Municipalities are found by dialled number, host name or bot, and none of these reaches two of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.municipality import AddressTakenError, By, Municipalities, Municipality
from tests.town_files import CALENDAR, SCHOOLS, loaded, write_town


@pytest.fixture
def borgo(tmp_path: Path) -> Municipality:
    return loaded(write_town(tmp_path / "borgo"))


def test_a_dialled_number_finds_its_town(borgo: Municipality) -> None:
    rocca = replace(borgo, key="rocca", numbers=("+39800000100", "+390350000100"))
    towns = Municipalities([rocca, borgo])

    assert [town.key for town in towns] == ["borgo", "rocca"]
    assert towns.reached_by("+390350000100") is rocca
    assert towns.reached_by("+390350000200") is borgo
    assert towns.reached_by("+390350000999") is None
    assert towns.named("rocca") is rocca
    assert towns.named("altrove") is None


def test_two_towns_cannot_have_one_number(borgo: Municipality) -> None:
    with pytest.raises(AddressTakenError, match=r"\+390350000200 reaches borgo already"):
        Municipalities([borgo, replace(borgo, key="rocca")])


def test_a_town_is_replaced_whole_with_its_numbers(borgo: Municipality) -> None:
    towns = Municipalities([borgo]).with_town(replace(borgo, numbers=("+390350000201",)))

    assert len(towns) == 1
    assert towns.reached_by("+390350000200") is None
    assert towns.reached_by("+390350000201") is not None


@pytest.mark.parametrize("host", ["mensa.example.org", "Mensa.Example.Org:8443", "mensa.example.org."])
def test_a_host_name_finds_its_town_as_a_browser_writes_it(borgo: Municipality, host: str) -> None:
    towns = Municipalities([replace(borgo, hosts=("mensa.example.org",)), replace(borgo, key="rocca", numbers=())])

    assert towns.at_host(host) is towns.named("borgo")
    assert towns.at_host("example.org") is None


def test_a_bot_finds_its_town_in_large_letters_too(borgo: Municipality) -> None:
    towns = Municipalities([replace(borgo, bot="borgo_mensa_bot")])

    assert towns.with_bot("@Borgo_Mensa_Bot") is towns.with_bot("borgo_mensa_bot") is towns.named("borgo")
    assert towns.with_bot("mensa_bot") is None


def test_of_towns_that_want_the_same_those_first_by_key_are_gathered_and_the_others_named(borgo: Municipality) -> None:
    towns = [
        replace(borgo, key="zeno", hosts=("mensa.example.org",), numbers=("+390350000203",)),
        replace(borgo, key="rocca", hosts=("mensa.example.org",), numbers=("+390350000201",)),
        replace(borgo, key="altra"),
        borgo,
    ]

    gathered, taken = Municipalities.gathered(towns)

    assert [town.key for town in gathered] == ["altra", "rocca"]
    assert [(each.by, each.address, each.first.key, each.second.key) for each in taken] == [
        (By.NUMBER, "+390350000200", "altra", "borgo"),
        (By.HOST, "mensa.example.org", "rocca", "zeno"),
    ]


def test_a_town_that_leaves_leaves_its_addresses_to_others(borgo: Municipality) -> None:
    both = Municipalities([replace(borgo, bot="borgo_mensa_bot"), replace(borgo, key="rocca", numbers=())])

    alone = both.without("borgo")

    assert [town.key for town in alone] == ["rocca"]
    assert alone.named("borgo") is None
    assert alone.with_town(replace(borgo, key="rocca", bot="borgo_mensa_bot")).with_bot("borgo_mensa_bot") is not None
    assert both.without("altrove") == both


def test_the_digest_is_of_what_the_files_say_and_not_of_where_they_stand(borgo: Municipality, tmp_path: Path) -> None:
    elsewhere = loaded(write_town(tmp_path / "another node" / "borgo"))
    later = loaded(write_town(tmp_path / "borgo", calendar=CALENDAR.replace("2026-11-11", "2026-11-12")))
    rocca = replace(borgo, key="rocca", numbers=())

    assert elsewhere.digest == borgo.digest
    assert len({borgo.digest, later.digest, rocca.digest}) == 3
    assert Municipalities([borgo, rocca]).digest == Municipalities([rocca]).with_town(elsewhere).digest
    assert Municipalities([borgo, rocca]).digest != Municipalities([borgo]).digest


def test_tables_in_another_order_are_the_same_town_with_the_same_digest(borgo: Municipality, tmp_path: Path) -> None:
    head, primaria, infanzia = (
        SCHOOLS.partition("  primaria:\n")[0],
        *SCHOOLS.removeprefix("schools:\n").split("  infanzia:\n"),
    )
    turned = loaded(write_town(tmp_path / "borgo", schools=f"{head}  infanzia:\n{infanzia}{primaria}"))

    assert list(turned.town.calendar.schools) == ["infanzia", "primaria"]
    assert turned == borgo
    assert turned.digest == borgo.digest
