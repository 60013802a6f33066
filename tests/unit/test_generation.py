"""A generated installation is one: its files load, its changes are what the rules allow, its closings what they count."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from core.access import AccessDesk, Actor, Identified
from core.changes import Kind
from core.clock import exactly
from core.desk import Action, Bland, Cancel, Request, Resume, Suspend, Undo, decide
from core.headcount import count_meals, digest_of
from core.kitchen import due_closings
from core.outcomes import Accepted
from core.people import PupilId
from gateway.files.load import Configuration, check_folder, load_configuration
from gateway.generation import (
    Callers,
    GenerationRefusedError,
    Plan,
    Towns,
    fill,
    generated_caller,
    write_configuration,
)
from gateway.generation.making import COLUMNS
from gateway.installation import InstallationError, open_installation
from gateway.pin_key import KeyedHasher
from gateway.store.bulk import FILLING, names, open_bulk
from gateway.store.engine import open_store
from gateway.store.port import MessageState
from gateway.store.sql import SqlStore
from gateway.store.tables import municipalities, pupils
from tests.postgres import Cluster
from tests.store_people import HASHER
from tests.whole_databases import contents, run_child, run_killed

UNTIL = date(2026, 11, 22)
PLAN = Plan(towns=12, pupils=900, days=12, seed=7, until=UNTIL)


def nothing_told(_done: int, _total: int) -> None:
    pass


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'mensa.db'}"


@pytest.fixture
def config(tmp_path: Path, url: str) -> Configuration:
    write_configuration(PLAN, tmp_path / "config", url, nothing_told)
    loaded = load_configuration(tmp_path / "config")
    assert isinstance(loaded, Configuration)
    return loaded


async def generate(url: str, plan: Plan = PLAN) -> None:
    async with open_bulk(url, makes=True) as bulk:
        await fill(bulk, plan, HASHER, nothing_told, range_pupils=100)


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    await generate(url)
    opened = await open_store(url)
    yield opened
    await opened.close()


def test_the_files_of_every_town_are_without_a_mistake_and_say_what_was_generated(config: Configuration) -> None:
    towns = {town.key: town for town in Towns(PLAN)}

    assert check_folder(config.folder) == ()
    assert {town.key for town in config.municipalities} == set(towns)
    for town in config.municipalities:
        assert town.town.calendar == towns[town.key].calendar()
        assert town.user_code_digits == towns[town.key].code_digits


@pytest.mark.parametrize(("towns", "pupils"), [(1, 1), (3, 3), (8_000, 2_000_000), (40, 2_000_000), (8_000, 8_000)])
def test_the_pupils_of_all_towns_are_those_asked_for(towns: int, pupils: int) -> None:
    plan = Plan(towns, pupils, days=30, seed=1, until=UNTIL)

    sizes = Towns(plan).sizes

    assert len(sizes) == towns
    assert sum(sizes) == pupils
    assert min(sizes) >= 1


def test_most_towns_are_small_and_a_few_hold_many_as_in_italy() -> None:
    sizes = sorted(Towns(Plan(8_000, 2_000_000, 30, 1, UNTIL)).sizes)

    # Of Italy's municipalities seven in ten have fewer than 5,000 people and together a sixth of all.
    assert 0.12 < sum(sizes[:5_600]) / 2_000_000 < 0.22
    assert sizes[-1] > 15_000


def test_most_schools_share_one_cutoff_minute() -> None:
    cutoffs = Counter(school.cutoff for town in Towns(Plan(400, 40_000, 30, 1, UNTIL)) for school in town.schools())

    (_, shared), *others = cutoffs.most_common()
    assert len(others) == 6
    assert shared > 3 * sum(count for _, count in others)


def test_rows_stand_in_the_columns_of_the_page_of_tables() -> None:
    assert {table.name: set(columns) for table, columns in COLUMNS.items()} == {
        table.name: set(names(table)) for table in COLUMNS
    }


async def test_every_change_is_what_the_desk_itself_decides_at_that_instant(
    store: SqlStore, config: Configuration
) -> None:
    kinds: Counter[Kind] = Counter()
    for town in config.municipalities:
        part = store.at(town.key)
        for pupil in await part.all_pupils():
            history = (await part.histories([pupil.id]))[pupil.id]
            for place, change in enumerate(history):
                actions: dict[Kind, Action] = {
                    Kind.CANCEL: Cancel(change.first),
                    Kind.BLAND: Bland(change.first),
                    Kind.SUSPEND: Suspend(change.first, change.last),
                    Kind.RESUME: Resume(change.first),
                    Kind.UNDO: Undo(),
                }
                actor = Actor(change.channel, change.session, change.guardian, frozenset({pupil.id}))
                request = Request(pupil, actions[change.kind], change.request)

                outcome, decided = decide(town.town, request, history[:place], actor, change.decided)

                assert isinstance(outcome, Accepted)
                assert decided is not None
                assert (decided.kind, decided.first, decided.last) == (change.kind, change.first, change.last)
                assert decided.takes_back == change.takes_back
                kinds[change.kind] += 1
            assert len({each.receipt for each in history}) == len(history)
    assert kinds[Kind.CANCEL] > kinds[Kind.BLAND] > 0
    assert all(kinds[kind] for kind in Kind)


async def test_every_closing_is_what_the_store_and_the_rules_count(store: SqlStore, config: Configuration) -> None:
    meals = 0
    for town in config.municipalities:
        part, rules = store.at(town.key), town.town
        for school in rules.calendar.schools:
            for day in PLAN.service_days():
                closing = await part.closing(school, day)
                roll = await part.roll(school, day, rules.tray_diets)
                headcount = count_meals(rules.calendar, rules.tray_diets, school, day, roll)
                if closing is None:
                    assert not headcount.class_groups
                    continue

                assert closing.headcount == headcount
                assert closing.cutoff == rules.calendar.cutoff(school, day)
                assert closing.digest == digest_of(town.key, headcount, closing.order, closing.cutoff)
                meals += headcount.meals
    assert meals > 5_000


async def test_nothing_is_due_or_waits_when_a_gateway_takes_it_over(store: SqlStore, config: Configuration) -> None:
    now = exactly(datetime(2026, 11, 22, 20, tzinfo=UTC))
    since = await store.closings_since([town.key for town in config.municipalities], now.earliest)
    through = await store.closed_through()

    due = [due_closings(town.town.calendar, since[town.key], through[town.key], now) for town in config.municipalities]

    assert not any(due)
    assert await store.messages(MessageState.SENT)
    assert not await store.messages(MessageState.WAITING)


async def test_generated_callers_are_known_by_number_or_by_code_and_pin(store: SqlStore, config: Configuration) -> None:
    callers = Callers(PLAN)
    assert len({callers[index].number for index in range(len(callers))}) == len(callers)

    for index in range(len(callers)):
        caller = generated_caller(PLAN, index)
        town = config.municipalities.reached_by(caller.dialled)
        assert town is not None
        assert town.key == caller.town
        desk = AccessDesk(store.at(caller.town), HASHER)

        family = await desk.recognise(caller.number)
        assert (family is not None) == caller.is_recognised
        if family is None:
            found = await desk.identify(caller.user_codes[0], caller.pin, None, datetime(2026, 11, 22, 20, tzinfo=UTC))
            assert isinstance(found, Identified)
            family = found.family
        assert family.guardian == caller.guardian
        assert tuple(pupil.id for pupil in family.pupils) == caller.pupils
        assert tuple(pupil.user_code for pupil in family.pupils) == caller.user_codes


async def test_new_rows_are_numbered_after_the_generated_ones(store: SqlStore) -> None:
    found = await store.at("another").all_pupils()

    assert found == ()
    assert await store.claim_setting("x", "y") == "y"


async def test_killed_at_any_part_it_goes_on_and_makes_the_same(tmp_path: Path, url: str) -> None:
    whole = f"sqlite:///{tmp_path / 'whole.db'}"
    await generate(whole)

    run_killed(random.Random(3), 3, 12, "generate", url, PLAN.as_text())

    assert await contents(url) == await contents(whole)


async def test_postgresql_gets_the_same_rows(url: str, postgres: Cluster) -> None:
    theirs = postgres.database(migrated=False)
    await generate(url)

    # Killed once on the way.
    assert not await asyncio.to_thread(run_child, "generate", theirs, PLAN.as_text(), until=lambda part: part == 4)
    await generate(theirs)

    assert await contents(theirs) == await contents(url)


async def test_another_seed_makes_other_rows_in_other_towns(tmp_path: Path, url: str) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"

    await generate(url)
    await generate(other, Plan(12, 900, 12, seed=8, until=UNTIL))

    ours, others = await contents(url), await contents(other)
    assert len(ours["pupils"]) == len(others["pupils"]) == 900
    assert ours["pupils"] != others["pupils"]


async def test_a_database_with_another_plan_is_left_alone(url: str) -> None:
    await generate(url)
    before = await contents(url)

    with pytest.raises(GenerationRefusedError, match="another generated"):
        await generate(url, Plan(12, 901, 12, seed=7, until=UNTIL))
    async with open_bulk(url) as bulk:
        with pytest.raises(GenerationRefusedError, match="pin_key_fingerprint"):
            await fill(bulk, PLAN, KeyedHasher(b"x" * 32), nothing_told)

    assert await contents(url) == before


async def test_a_database_that_is_in_use_is_left_alone(url: str) -> None:
    store = await open_store(url)
    await store.migrate()
    await store.claim_setting("purpose", "service")
    await store.close()

    with pytest.raises(GenerationRefusedError, match="an installation's"):
        await generate(url)


def test_a_configuration_with_towns_of_its_own_is_left_alone(tmp_path: Path, url: str) -> None:
    (tmp_path / "config" / "municipalities" / "roccachiara").mkdir(parents=True)

    with pytest.raises(GenerationRefusedError, match="roccachiara"):
        write_configuration(PLAN, tmp_path / "config", url, nothing_told)

    assert [each.name for each in (tmp_path / "config" / "municipalities").iterdir()] == ["roccachiara"]


async def test_no_gateway_starts_on_half_of_it(config: Configuration, url: str) -> None:
    async with open_bulk(url, makes=True) as bulk:
        await bulk.add([], {FILLING: "a generated installation"})

    with pytest.raises(InstallationError, match="not whole"):
        async with open_installation(config):
            pass


async def test_without_closings_the_days_are_open_and_the_changes_the_same(tmp_path: Path, url: str) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    await generate(url)
    await generate(other, Plan(12, 900, 12, seed=7, until=UNTIL, closings=False))

    ours, others = await contents(url), await contents(other)

    assert others["changes"] == ours["changes"]
    assert others["closings"] == others["messages"] == []
    assert all(row[names(municipalities).index("closings_since")] is None for row in others["municipalities"])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0, 10, 1), "--towns: 0; expected 1 to"),
        ((10, 9, 1), "--pupils: 9; expected 10 to"),
        ((1, 50_001, 1), "--pupils: 50001; expected 1 to 50000"),
        ((10, 10, 171), "--days: 171"),
        ((10, 10, 100), "has only"),
    ],
)
def test_what_cannot_be_generated_is_said(values: tuple[int, int, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Plan(*values, seed=1, until=UNTIL)


def test_days_of_service_leave_out_weekends_holidays_and_christmas() -> None:
    days = Plan(1, 1, 20, 1, date(2027, 1, 10)).service_days()

    assert len(days) == 20
    assert days[-3:] == (date(2026, 12, 22), date(2027, 1, 7), date(2027, 1, 8))
    assert date(2026, 12, 8) not in days
    assert not any(day.weekday() > 4 for day in days)


async def test_pupils_have_the_ids_that_the_plan_gives_them(url: str) -> None:
    await generate(url)
    towns = Towns(PLAN)

    found = await contents(url)

    place = names(pupils).index("municipality")
    assert Counter(row[place] for row in found["pupils"]) == {town.id: town.pupils for town in towns}
    assert [row[names(pupils).index("id")] for row in found["pupils"]] == list(range(1, 901))
    assert PupilId(900) == towns[11].pupils_before + towns[11].pupils
