"""Municipalities are found by the number that was dialled, and no number reaches two of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.municipality import AddressTakenError, Municipalities, Municipality
from tests.town_files import loaded, write_town


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
