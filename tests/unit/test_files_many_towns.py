"""Many towns in one installation: what happens to one touches no other, and what they say is read on every processor."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from gateway.files import many, watch
from gateway.files.load import Configuration, check_folder, load_configuration
from gateway.files.many import for_each
from gateway.files.watch import Edit, Refused, Removed, Swapped, TownsInForce, Unwatched
from gateway.municipality import Municipality
from tests.town_files import CALENDAR, MUNICIPALITY, SCHOOLS, said, write_town

HOUSE = Path(__file__).parents[2]
OTHERS = 50
# An edit is seen after a second or two; a machine with much else to do gets twenty.
SEEN_WITHIN_S = 20
CLOSED = CALENDAR.replace("cutoffs:", "  - {closed: 2026-11-24, why: Neve}\ncutoffs:")
WRONG = CALENDAR.replace("2026-11-11", "2026-02-30")


def municipality(number: int, more: str = "") -> str:
    return MUNICIPALITY.replace("0350000200", f"03500002{number:02}") + more


def load(folder: Path) -> Configuration:
    configuration = load_configuration(folder)
    assert isinstance(configuration, Configuration)
    return configuration


class Province:
    """Fifty towns and the one that is edited, `borgo`, in force over their folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pupils: dict[str, int] = {}
        self.edits: asyncio.Queue[Edit] = asyncio.Queue()
        self.towns = TownsInForce(load(folder), self.classes_in_use, self.edits.put_nowait)
        self.before = {town.key: town for town in self.towns.municipalities}

    async def classes_in_use(self, town: Municipality) -> Mapping[tuple[str, str], int]:
        return {("primaria", "1A"): self.pupils.get(town.key, 0)}

    def town(self, key: str) -> Path:
        return self.folder / "municipalities" / key

    def write(self, key: str, name: str, text: str) -> None:
        (self.town(key) / name).write_text(text, encoding="utf-8")

    def told(self) -> list[Edit]:
        return [self.edits.get_nowait() for _ in range(self.edits.qsize())]

    def assert_others_untouched(self, *but: str) -> None:
        now = {town.key: town for town in self.towns.municipalities}
        others = [key for key in self.before if key not in but]
        assert len(others) >= OTHERS - 1
        assert all(now[key] is self.before[key] for key in others)
        assert [town.key for town in self.towns.municipalities] == sorted(now)
        for key in others:
            in_force = self.towns.reached_by(self.before[key].numbers[0])
            assert in_force is not None
            assert in_force.municipality is self.before[key]


@pytest.fixture
def province(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Province:
    monkeypatch.setattr(watch, "SETTLED_AFTER_S", 0.02)
    for number in range(OTHERS):
        write_town(tmp_path / "municipalities" / f"comune-{number:02}", municipality=municipality(number))
    write_town(tmp_path / "municipalities" / "borgo", municipality=municipality(90))
    return Province(tmp_path)


async def test_a_town_that_is_added_is_served_beside_the_others(province: Province) -> None:
    write_town(province.town("altrove"), municipality=municipality(91, "hosts: [Mensa.Altrove.example.org]\n"))

    await province.towns.refresh("altrove")

    [edit] = province.told()
    assert isinstance(edit, Swapped)
    assert edit.before is None
    assert province.towns.reached_by("+390350000291") is province.towns.calendar("altrove")
    assert province.towns.at_host("mensa.altrove.example.org:443") is province.towns.calendar("altrove")
    province.assert_others_untouched()


async def test_a_town_that_is_changed_is_the_only_one_that_changes(province: Province) -> None:
    digest = province.towns.digest
    province.write("borgo", "calendar.yaml", CLOSED)

    await province.towns.refresh_all(province.before)

    [edit] = province.told()
    assert isinstance(edit, Swapped)
    assert edit.after.key == "borgo"
    assert province.towns.digest != digest
    assert province.towns.digest == load(province.folder).municipalities.digest
    province.assert_others_untouched("borgo")


async def test_R23_a_town_that_is_broken_keeps_what_worked_until_it_is_mended(province: Province) -> None:
    province.write("borgo", "calendar.yaml", WRONG)
    await province.towns.refresh_all(province.before)
    broken, refused = province.told(), dict(province.towns.refused)
    province.assert_others_untouched()
    province.write("borgo", "calendar.yaml", CLOSED)

    await province.towns.refresh_all(province.before)

    assert [type(edit) for edit in broken] == [Refused]
    assert list(refused) == ["borgo"]
    assert [type(edit) for edit in province.told()] == [Swapped]
    assert province.towns.refused == {}
    province.assert_others_untouched("borgo")


async def test_a_town_whose_folder_is_gone_is_served_while_it_has_pupils(province: Province) -> None:
    province.pupils["borgo"] = 12
    shutil.rmtree(province.town("borgo"))

    await province.towns.refresh("borgo")

    [edit] = province.told()
    assert isinstance(edit, Refused)
    assert str(edit.mistakes[0]).endswith(
        "/borgo:1:1: the folder is gone, but the town has 12 pupils; expected it to stay while it has any"
    )
    assert province.towns.reached_by("+390350000290") is not None
    province.assert_others_untouched()


async def test_a_town_without_pupils_leaves_with_its_folder_and_comes_back_to_its_desks(province: Province) -> None:
    in_force = province.towns.calendar("borgo")
    shutil.rmtree(province.town("borgo"))
    await province.towns.refresh("borgo")
    gone, none, reached = province.told(), province.towns.calendar("borgo"), province.towns.reached_by("+390350000290")
    write_town(province.town("borgo"), municipality=municipality(90))

    await province.towns.refresh("borgo")

    assert [type(edit) for edit in gone] == [Removed]
    assert none is None
    assert reached is None
    assert [type(edit) for edit in province.told()] == [Swapped]
    assert province.towns.calendar("borgo") is in_force
    province.assert_others_untouched("borgo")


async def test_a_town_that_is_renamed_is_reached_by_its_number_once_the_old_name_has_left(province: Province) -> None:
    os.rename(province.town("borgo"), province.town("antico"))

    await province.towns.refresh_all(["antico", "borgo"])

    assert [type(edit) for edit in province.told()] == [Refused, Removed, Swapped]
    assert province.towns.refused == {}
    assert province.towns.reached_by("+390350000290") is province.towns.calendar("antico")
    province.assert_others_untouched("borgo")


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (
            municipality(90),
            municipality(90),
            "2:11: numbers: +390350000290 reaches the town 'borgo' already; expected a number of this town alone",
        ),
        (
            municipality(90, "hosts: [mensa.example.org]\n"),
            municipality(92, "hosts: [altra.example.org, MENSA.example.org]\n"),
            "4:28: hosts: mensa.example.org is the host name of the town 'borgo' already; "
            "expected a host name of this town alone",
        ),
        (
            municipality(90, "bot: borgo_mensa_bot\n"),
            municipality(92, "bot: Borgo_Mensa_Bot\n"),
            "4:6: bot: borgo_mensa_bot is the bot of the town 'borgo' already; expected a bot of this town alone",
        ),
    ],
    ids=["number", "host", "bot"],
)
async def test_what_two_towns_claim_the_first_keeps_and_the_second_gets_when_it_is_let_go(
    province: Province, first: str, second: str, found: str
) -> None:
    province.write("borgo", "municipality.yaml", first)
    await province.towns.refresh("borgo")
    province.told()
    write_town(province.town("nuovo"), municipality=second)
    await province.towns.refresh("nuovo")
    [refused] = province.told()
    unserved, at_restart = province.towns.calendar("nuovo"), load(province.folder).broken["nuovo"]

    province.write("borgo", "municipality.yaml", municipality(93))
    await province.towns.refresh("borgo")

    assert isinstance(refused, Refused)
    assert said(refused.mistakes) == said(at_restart) == [f"municipality.yaml:{found}"]
    assert unserved is None
    assert [type(edit) for edit in province.told()] == [Swapped, Swapped]
    assert province.towns.refused == {}
    assert province.towns.calendar("nuovo") in (
        province.towns.reached_by("+390350000290"),
        province.towns.at_host("mensa.example.org"),
        province.towns.with_bot("@Borgo_Mensa_Bot"),
    )
    province.assert_others_untouched("borgo")


async def test_a_town_refused_at_the_start_for_its_number_is_served_when_the_number_is_free(province: Province) -> None:
    write_town(province.town("nuovo"), municipality=municipality(90))
    province = Province(province.folder)
    assert list(province.towns.refused) == ["nuovo"]
    province.write("borgo", "municipality.yaml", municipality(93))

    await province.towns.refresh("borgo")

    assert province.towns.reached_by("+390350000290") is province.towns.calendar("nuovo")


@contextlib.asynccontextmanager
async def watching(towns: TownsInForce) -> AsyncIterator[None]:
    task = asyncio.create_task(towns.watch())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_at_the_start_nothing_is_read_again_that_stands_as_it_was_read(
    province: Province, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(folder: Path) -> watch.TownFiles:
        read.append(folder.name)
        return original(folder)

    original = watch.read_town_files
    monkeypatch.setattr(watch, "read_town_files", noted)
    async with watching(province.towns):
        province.write("borgo", "calendar.yaml", CLOSED)
        await asyncio.wait_for(province.edits.get(), SEEN_WITHIN_S)

    assert set(read) == {"borgo"}


async def test_without_events_every_town_has_its_turn_and_it_is_said_how_long_that_takes(
    province: Province, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_watches(*_: object, **__: object) -> object:
        raise OSError("OS file watch limit reached.")

    monkeypatch.setattr(watch, "awatch", without_watches)
    monkeypatch.setattr(watch, "TOWNS_A_LOOK", 10)
    monkeypatch.setattr(watch, "LOOK_EVERY_MS", 20)
    async with watching(province.towns):
        unwatched = await asyncio.wait_for(province.edits.get(), SEEN_WITHIN_S)
        province.write("comune-49", "calendar.yaml", CLOSED)
        swapped = await asyncio.wait_for(province.edits.get(), SEEN_WITHIN_S)

    assert isinstance(unwatched, Unwatched)
    assert unwatched.seconds == pytest.approx(0.14)
    assert "fs.inotify.max_user_watches is" in unwatched.why
    assert "51 towns take 52 or more" in unwatched.why
    assert isinstance(swapped, Swapped)
    province.assert_others_untouched("comune-49")


def test_a_folder_that_is_a_link_keeps_its_own_name(province: Province) -> None:
    os.rename(province.town("borgo"), province.folder / "release-7")
    province.town("borgo").symlink_to(province.folder / "release-7")

    assert load(province.folder).municipalities.named("borgo") is not None


def test_folders_that_lead_nowhere_or_wait_for_ever_are_mistakes_of_those_towns_alone(province: Province) -> None:
    province.town("cerchio").symlink_to("cerchio")
    (province.town("borgo") / "calendar.yaml").unlink()
    os.mkfifo(province.town("borgo") / "calendar.yaml")

    configuration = load(province.folder)

    assert len(configuration.municipalities) == OTHERS
    assert sorted(configuration.broken) == ["borgo", "cerchio"]
    assert "too many levels of symbolic links" in str(configuration.broken["cerchio"][0])
    assert said(check_folder(province.folder)) == [
        each for wrong in configuration.broken.values() for each in said(wrong)
    ]


def test_a_folder_that_this_user_may_not_look_into_is_a_mistake_of_that_town_alone(province: Province) -> None:
    province.town("borgo").chmod(0o000)
    # To root nothing is forbidden, unless root gives those rights up.
    as_user = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []

    checked = subprocess.run(
        [*as_user, sys.executable, "-m", "gateway.cli", "calendar", "check", str(province.folder)],
        capture_output=True,
        text=True,
        cwd=HOUSE,
        timeout=120,
        check=False,
    )

    assert checked.returncode == 1, checked.stderr
    lines = (checked.stdout + checked.stderr).splitlines()
    assert [line.count("borgo/") and line.count("permission denied") for line in lines] == [1, 1, 1]


def test_towns_that_cannot_be_listed_are_one_mistake(tmp_path: Path) -> None:
    (tmp_path / "municipalities").symlink_to("municipalities")

    loaded, checked = load_configuration(tmp_path), check_folder(tmp_path)

    assert loaded == checked
    assert ["too many levels" in str(each) for each in checked] == [True]


async def test_what_happens_to_the_folder_of_all_towns_ends_no_watch(
    province: Province, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_EVERY_MS", 20)
    for key in province.before:
        province.pupils[key] = 1
    async with watching(province.towns):
        os.rename(province.folder / "municipalities", province.folder / "away")
        (province.folder / "municipalities").symlink_to("municipalities")
        refused = await asyncio.wait_for(province.edits.get(), SEEN_WITHIN_S)
        os.unlink(province.folder / "municipalities")
        os.rename(province.folder / "away", province.folder / "municipalities")
        province.write("borgo", "calendar.yaml", CLOSED)
        while not isinstance(edit := await asyncio.wait_for(province.edits.get(), SEEN_WITHIN_S), Swapped):
            pass

    assert isinstance(refused, Refused | Unwatched)
    assert edit.after.key == "borgo"
    province.assert_others_untouched("borgo")


def test_three_hundred_towns_are_read_by_several_processes_as_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        told = MUNICIPALITY.replace("0350000200", f"0350001{number:03}")
        write_town(
            tmp_path / "municipalities" / f"comune-{number:03}",
            municipality=told,
            calendar=WRONG if number % 100 == 7 else CALENDAR,
            schools=SCHOOLS if number % 2 else SCHOOLS.replace("09:00", "08:45"),
        )
    alone = load(tmp_path)
    progress: list[tuple[int, int]] = []
    monkeypatch.setattr(many, "MANY", 100)
    monkeypatch.setattr(many.threading, "active_count", lambda: 1)

    together = load_configuration(tmp_path, lambda done, towns: progress.append((done, towns)))

    assert together == alone
    assert isinstance(together, Configuration)
    assert together.municipalities.digest == alone.municipalities.digest
    assert len(together.municipalities) == 297
    assert list(together.broken) == ["comune-007", "comune-107", "comune-207"]
    assert progress == [(100, 300), (200, 300), (300, 300)]
    assert said(check_folder(tmp_path)) == [each for wrong in alone.broken.values() for each in said(wrong)]


def test_work_that_a_killed_process_left_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "MANY", 100)
    monkeypatch.setattr(many.threading, "active_count", lambda: 1)

    results = list(for_each(_dies_in_a_worker, range(300), lambda done, items: None))

    assert results == list(range(300))


HERE = os.getpid()


def _dies_in_a_worker(item: int) -> int:
    if item == 150 and os.getpid() != HERE:
        os._exit(9)
    return item
