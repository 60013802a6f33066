"""The kitchen's number over real calls: what the cook hears is what `mensa headcount` says, before the closing and after it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from caller import Caller
from product import ROME, Line, Outcomes, PutUp, Together, stranger
from town import MONDAY, TOWN

from core.kitchen import closings_of
from ivr.line import Prompt, SchoolName, SpokenCode, SpokenDay, SpokenNumber, SpokenSince, SpokenTime, prompt

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CODE, PIN = "90001", "7315"
ONE_SCHOOLS_CODE = "90002"
COOKS = f"code,pin,schools,language\n{CODE},{PIN},,it\n{ONE_SCHOOLS_CODE},,primaria,it\n"
SCHOOLS = {"infanzia": "Scuola dell'infanzia", "primaria": "Scuola primaria", "secondaria": "Scuola secondaria"}
BEFORE, AFTER = "2026-11-23T08:00:00", "2026-11-23T10:00:00"
# All that three schools are told of, with the greeting and two questions before it.
TOLD_S = 90.0

SCENES = Together()
at_once = SCENES.at_once


@dataclass(frozen=True, slots=True)
class Place:
    """What a scene is played with."""

    put_up: PutUp
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scenes(put_up: PutUp, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Outcomes]:
    """All scenes, played at the same time."""
    async with SCENES.going_on(Place(put_up, tmp_path_factory.mktemp("cooks"))) as outcomes:
        yield outcomes


@at_once
async def before(place: Place) -> None:
    async with place.put_up("before", at=BEFORE) as line:
        await _enrol(line, place.folder / "before.csv")
        code, _, told = await line.town.mensa("change", "bland", "50004", "--day", str(MONDAY))
        assert code == 0, told
        counted = await _headcount(line)
        assert [each["final"] for each in counted] == [False] * 3

        caller = await _called(line, stranger(31), CODE, PIN)

        expected = [each for count in counted for each in _told(count)]
        assert sum(each.id == "kitchen-so-far" for each in expected) == 3
        await line.voice.assert_heard(
            caller,
            *("welcome", "enter-code", "enter-pin", prompt("kitchen-day", day=SpokenDay(MONDAY))),
            *(*expected, "kitchen-keys"),
            never=("kitchen-soon-final", "phrase/kitchen-final-1", "offer-cancel"),
        )
        await _logged(line, stranger(31), CODE, PIN)


async def test_a_cook_keys_code_and_pin_and_hears_what_is_counted_so_far(scenes: Outcomes) -> None:
    await scenes(before)


@at_once
async def after(place: Place) -> None:
    async with place.put_up("after", at=AFTER) as line:
        pin = await _enrol(line, place.folder / "after.csv")
        await _close(line)
        [count] = [each for each in await _headcount(line) if each["school"] == "primaria"]
        assert count["final"] is True

        caller = await _called(line, stranger(32), ONE_SCHOOLS_CODE, pin)

        await line.voice.assert_heard(
            caller,
            *(prompt("kitchen-day", day=SpokenDay(MONDAY)), *_told(count), "kitchen-keys", "goodbye"),
            never=("school/scuola-dell_27_infanzia", "phrase/kitchen-so-far-1"),
        )
        await _logged(line, stranger(32), ONE_SCHOOLS_CODE, pin)


async def test_R25_after_the_closing_a_cook_of_one_school_hears_its_final_count_alone(scenes: Outcomes) -> None:
    await scenes(after)


async def _enrol(line: Line, file: Path) -> str:
    """Take in the cooks as an operator does; the PIN that was made for the second."""
    letters = file.with_suffix(".letters")
    await asyncio.to_thread(file.write_text, COOKS, "utf-8")
    code, _, told = await line.town.mensa("people", "cooks", str(file), "--letters", str(letters))
    assert code == 0, told
    [_, letter] = (await asyncio.to_thread(letters.read_text, "utf-8")).splitlines()
    cook, schools, pin = letter.split(",")
    assert (cook, schools) == (ONE_SCHOOLS_CODE, "primaria")
    return pin


async def _close(line: Line) -> None:
    """Close Monday as the gateways of the morning would have done."""
    async with line.town.house() as house:
        town = house.configuration.municipalities.named(TOWN)
        assert town is not None
        await house.clock.measure()
        for due in closings_of(town.town.calendar, MONDAY):
            await house.desks_of(town).kitchen.close(due, house.clock_of(town).read())


async def _headcount(line: Line) -> list[dict[str, Any]]:
    code, told, wrong = await line.town.mensa("headcount", "--day", str(MONDAY), "--json")
    assert code == 0, wrong
    document: dict[str, Any] = json.loads(told)
    schools: list[dict[str, Any]] = document["schools"]
    return schools


async def _called(line: Line, number: str, code: str, pin: str) -> Caller:
    async with line.call(number) as caller:
        await line.voice.wait_for(caller, "enter-code")
        await caller.press(code)
        await line.voice.wait_for(caller, "enter-pin")
        await caller.press(pin)
        await line.voice.wait_for(caller, "kitchen-keys", timeout_s=TOLD_S)
        await caller.press("9")
        await line.voice.wait_for(caller, "goodbye")
        await caller.wait_until_over()
    return caller


def _told(count: dict[str, Any]) -> list[Prompt]:
    """How the numbers of `mensa headcount` are said."""
    meals, bland = count["meals"], count["kinds"]["bland"]
    told = [prompt("kitchen-school", school=SchoolName(SCHOOLS[count["school"]]))]
    told.append(prompt("kitchen-meals", number=SpokenNumber(meals)) if meals > 1 else prompt("kitchen-meal"))
    match bland:
        case 0:
            told.append(prompt("kitchen-no-bland"))
        case 1:
            told.append(prompt("kitchen-one-bland"))
        case _:
            told.append(prompt("kitchen-bland", number=SpokenNumber(bland)))
    for code, number in count["diets"].items():
        if number == 1:
            told.append(prompt("kitchen-one-diet", code=SpokenCode(code)))
        else:
            told.append(prompt("kitchen-diet", number=SpokenNumber(number), code=SpokenCode(code)))
    cutoff = datetime.fromisoformat(count["cutoff"]).astimezone(ROME).time()
    if count["final"]:
        told.append(prompt("kitchen-final", since=SpokenSince(cutoff)))
    else:
        told.append(prompt("kitchen-so-far", time=SpokenTime(cutoff)))
    return told


async def _logged(line: Line, number: str, code: str, pin: str) -> None:
    """The call log says who it was and that nothing but listening was done, and holds no key of code or PIN."""
    record = await line.town.call_from(number)
    assert (record.outcome, record.identified, record.receipts) == ("informed", "cook", ())
    events = await line.town.call_events({"call": record.call})
    told = " ".join(str(event.fields) for event in events)
    assert code not in told
    assert pin not in told.replace(str(record.call), "")
    [log] = [await asyncio.to_thread(gateway.log.read_text, "utf-8") for gateway in line.gateways]
    assert code not in log
