"""Edits while the gateway runs: checked as a whole, then swapped in or refused, however the editor writes (R23)."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from datetime import date
from pathlib import Path

import pytest

from gateway.files import watch
from gateway.files.load import Configuration, load_configuration, only_town
from gateway.files.watch import CalendarInForce, Edit, Refused, Swapped, TakenBack, TownsInForce
from gateway.municipality import Municipality
from tests.town_files import CALENDAR, MUNICIPALITY, SCHOOLS, loaded, write_town

# An edit is seen after a second or two; a machine with much else to do gets twenty.
SEEN_WITHIN_S = 20
CLOSED = CALENDAR.replace("cutoffs:", "  - {closed: 2026-11-24, why: Neve}\ncutoffs:")
WRONG = CALENDAR.replace("2026-11-11", "2026-02-30")


class House:
    """Towns in force over a folder, and the edits that were told of."""

    def __init__(self, folder: Path, only: str | None = None) -> None:
        configuration = load_configuration(folder)
        assert isinstance(configuration, Configuration)
        if only is not None:
            configuration = only_town(configuration, only)
        self.folder = folder / "municipalities" / "borgo"
        self.in_use: dict[tuple[str, str], int] = {}
        self.store_is_down = False
        self.edits: asyncio.Queue[Edit] = asyncio.Queue()
        self.towns = TownsInForce(configuration, self.classes_in_use, self.edits.put_nowait)

    async def classes_in_use(self, town: Municipality) -> Mapping[tuple[str, str], int]:
        assert town.key == "borgo"
        if self.store_is_down:
            raise OSError("disk gone")
        return self.in_use

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def serves(self, day: date) -> bool:
        calendar = self.borgo.town().calendar
        return calendar.is_served(calendar.classes["primaria", "1A"], day)

    @property
    def borgo(self) -> CalendarInForce:
        calendar = self.towns.calendar("borgo")
        assert calendar is not None
        return calendar

    def told(self) -> list[Edit]:
        return [self.edits.get_nowait() for _ in range(self.edits.qsize())]

    async def next_edit(self) -> Edit:
        return await asyncio.wait_for(self.edits.get(), SEEN_WITHIN_S)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(watch, "SETTLED_AFTER_S", 0.02)
    write_town(tmp_path / "municipalities" / "borgo")
    return House(tmp_path)


@contextlib.asynccontextmanager
async def watching(house: House) -> AsyncIterator[None]:
    task = asyncio.create_task(house.towns.watch())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


DAY = date(2026, 11, 24)


async def test_an_edit_that_is_right_is_swapped_in_whole(house: House) -> None:
    before = house.borgo.municipality
    house.write("calendar.yaml", CLOSED)

    assert await house.towns.refresh("borgo")

    [edit] = house.told()
    assert isinstance(edit, Swapped)
    assert edit.before is before
    assert edit.after is house.borgo.municipality
    assert not house.serves(DAY)
    assert house.towns.municipalities.named("borgo") is house.borgo.municipality


async def test_R23_an_edit_with_mistakes_is_refused_and_the_old_calendar_still_answers(house: House) -> None:
    before = house.borgo.municipality
    house.write("calendar.yaml", WRONG)

    await house.towns.refresh("borgo")

    [edit] = house.told()
    assert isinstance(edit, Refused)
    assert [str(each).removeprefix(f"{house.folder}/") for each in edit.mistakes] == [
        "calendar.yaml:3:9: patron: '2026-02-30' does not exist; expected a day of the calendar"
    ]
    assert house.borgo.municipality is before
    assert house.towns.refused == {"borgo": edit.mistakes}


async def test_the_same_mistakes_are_told_once(house: House) -> None:
    house.write("calendar.yaml", WRONG)
    await house.towns.refresh("borgo")
    house.write("calendar.yaml", WRONG + "# still at it\n")

    await house.towns.refresh("borgo")

    assert len(house.told()) == 1


async def test_a_refused_edit_that_is_taken_back_is_told_and_changes_nothing(house: House) -> None:
    before = house.borgo.municipality
    house.write("calendar.yaml", WRONG)
    await house.towns.refresh("borgo")
    house.write("calendar.yaml", CALENDAR)

    await house.towns.refresh("borgo")

    assert isinstance(house.told()[-1], TakenBack)
    assert house.borgo.municipality is before
    assert house.towns.refused == {}


async def test_where_one_town_was_named_the_others_stay_out_whatever_is_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SETTLED_AFTER_S", 0.02)
    write_town(tmp_path / "municipalities" / "borgo")
    other = MUNICIPALITY.replace("0350000200", "0350000300")
    write_town(tmp_path / "municipalities" / "altro", municipality=other)
    house = House(tmp_path, only="borgo")

    async with watching(house):
        house.write("calendar.yaml", CLOSED)
        edit = await house.next_edit()

    assert isinstance(edit, Swapped)
    assert edit.after.key == "borgo"
    assert [town.key for town in house.towns.municipalities] == ["borgo"]


async def test_files_that_say_what_is_in_force_are_no_edit(house: House) -> None:
    await house.towns.refresh("borgo")
    house.write("calendar.yaml", CALENDAR + "# a remark\n")
    await house.towns.refresh("borgo")

    assert house.told() == []


async def test_a_file_that_vanished_is_refused_and_the_old_calendar_still_answers(house: House) -> None:
    (house.folder / "schools.yaml").unlink()

    await house.towns.refresh("borgo")

    [edit] = house.told()
    assert isinstance(edit, Refused)
    assert "schools.yaml:1:1: the file cannot be read" in str(edit.mistakes[0])
    assert house.serves(DAY)


async def test_a_class_with_pupils_cannot_be_taken_away(house: House) -> None:
    house.in_use = {("primaria", "3B"): 12, ("primaria", "1A"): 20}
    house.write("schools.yaml", SCHOOLS.replace("      3B: [mon, thu]\n", ""))
    house.write("calendar.yaml", CALENDAR.replace("  - {closed: 2026-11-26, why: Gita, class: primaria/3B}\n", ""))

    await house.towns.refresh("borgo")

    [edit] = house.told()
    assert isinstance(edit, Refused)
    assert str(edit.mistakes[0]).removeprefix(f"{house.folder}/") == (
        "schools.yaml:2:3: class 'primaria/3B' is gone, but 12 pupils are in it; "
        "expected it to stay until they are in other classes"
    )
    assert ("primaria", "3B") in house.borgo.town().calendar.classes


async def test_a_school_without_pupils_can_be_taken_away(house: House) -> None:
    house.in_use = {("primaria", "1A"): 20}
    house.write("schools.yaml", SCHOOLS.split("  infanzia:")[0])

    await house.towns.refresh("borgo")

    assert isinstance(house.told()[0], Swapped)
    assert list(house.borgo.town().calendar.schools) == ["primaria"]


async def test_while_the_store_cannot_say_which_classes_are_in_use_the_edit_waits(house: House) -> None:
    house.store_is_down = True
    house.write("schools.yaml", SCHOOLS.split("  infanzia:")[0])

    assert not await house.towns.refresh("borgo")
    assert not await house.towns.refresh("borgo")
    [refused] = house.told()
    house.store_is_down = False
    assert await house.towns.refresh("borgo")

    assert isinstance(refused, Refused)
    assert isinstance(house.told()[0], Swapped)


async def test_a_number_of_another_town_is_refused(house: House, tmp_path: Path) -> None:
    write_town(tmp_path / "municipalities" / "rocca", municipality=MUNICIPALITY.replace("0350000200", "800000100"))
    house = House(tmp_path)
    house.write("municipality.yaml", MUNICIPALITY.replace('"0350000200"', '"0350000200", "800000100"'))

    await house.towns.refresh("borgo")

    [edit] = house.told()
    assert isinstance(edit, Refused)
    assert "+39800000100 reaches the town 'rocca' already" in str(edit.mistakes[0])


async def test_a_changed_number_reaches_the_town_at_once(house: House) -> None:
    house.write("municipality.yaml", MUNICIPALITY.replace("0350000200", "800000100"))

    await house.towns.refresh("borgo")

    assert house.towns.reached_by("+390350000200") is None
    assert house.towns.reached_by("+39800000100") is house.borgo


async def test_a_town_that_was_broken_at_the_start_is_served_once_it_is_mended(tmp_path: Path, house: House) -> None:
    house.write("calendar.yaml", WRONG)
    house = House(tmp_path)
    assert house.towns.calendar("borgo") is None
    await house.towns.refresh("borgo")
    assert house.told() == []
    house.write("calendar.yaml", CALENDAR)

    await house.towns.refresh("borgo")

    [edit] = house.told()
    assert isinstance(edit, Swapped)
    assert edit.before is None
    assert house.towns.reached_by("+390350000200") is house.borgo


async def test_a_file_that_is_still_being_written_is_judged_when_it_stands_still(house: House) -> None:
    writing = asyncio.Event()

    async def write_slowly() -> None:
        for end in range(0, len(CLOSED), 20):
            house.write("calendar.yaml", CLOSED[:end])
            await asyncio.sleep(0.005)
            writing.set()
        house.write("calendar.yaml", CLOSED)

    task = asyncio.create_task(write_slowly())
    await writing.wait()
    await asyncio.gather(task, house.towns.refresh("borgo"))
    await house.towns.refresh("borgo")

    assert isinstance(house.told()[-1], Swapped)
    assert not house.serves(DAY)


@pytest.mark.parametrize("force_polling", ["", "true"], ids=["events", "polling"])
async def test_a_running_gateway_sees_edits_written_in_place(
    house: House, force_polling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHFILES_FORCE_POLLING", force_polling)
    async with watching(house):
        house.write("calendar.yaml", WRONG)
        refused = await house.next_edit()
        house.write("calendar.yaml", CLOSED)
        swapped = await house.next_edit()

    assert isinstance(refused, Refused)
    assert isinstance(swapped, Swapped)
    assert not house.serves(DAY)


async def test_a_running_gateway_sees_a_new_file_renamed_into_place(house: House) -> None:
    async with watching(house):
        draft = house.folder / ".calendar.yaml.swp"
        draft.write_text(CLOSED, encoding="utf-8")
        os.replace(draft, house.folder / "calendar.yaml")
        edit = await house.next_edit()

    assert isinstance(edit, Swapped)


async def test_a_running_gateway_sees_a_folder_that_was_replaced(house: House, tmp_path: Path) -> None:
    house.in_use = {("primaria", "1A"): 20}
    async with watching(house):
        os.rename(house.folder, tmp_path / "away")
        gone = await house.next_edit()
        write_town(house.folder, calendar=CLOSED)
        back = await house.next_edit()

    assert isinstance(gone, Refused)
    assert isinstance(back, Swapped)
    assert not house.serves(DAY)


async def test_where_the_file_system_sends_no_events_looking_does_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_watches(*_: object, **__: object) -> object:
        raise OSError("no space left on device")

    monkeypatch.setattr(watch, "awatch", without_watches)
    async with watching(house):
        house.write("calendar.yaml", CLOSED)
        edit = await house.next_edit()

    assert isinstance(edit, Swapped)


def test_a_town_stands_for_itself_alone(house: House) -> None:
    other = CalendarInForce(house.borgo.municipality)
    stranger = loaded(write_town(house.folder.parent / "altrove"))

    with pytest.raises(ValueError, match="altrove cannot stand for borgo"):
        other.swap(stranger)
