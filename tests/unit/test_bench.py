"""The parts of the bench over PostgreSQL run, at a size that takes seconds; what they measure is for `make bench`."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench import changes, closings, headcounts, rush
from bench.province import Province, Size, fill
from bench.rush import Rushed, Spent, Step
from tests.postgres import OWNER, Cluster

SIZE = Size(towns=4, pupils=400, days=6)
NO_CORES = Spent(0, 0, 0, 0)


@pytest.fixture(scope="module")
def generated(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Province:
    """A small generated installation."""
    folder = tmp_path_factory.mktemp("bench")
    province = Province(postgres, postgres.database(migrated=False), folder / "config", SIZE)
    fill(province)
    return province


@pytest.fixture
def whole(generated: Province) -> Iterator[Province]:
    """A copy of the test's own."""
    cluster, name = generated.cluster, f"{generated.url.rpartition('/')[2]}_copy"
    cluster.sql(f"CREATE DATABASE {name} TEMPLATE {generated.url.rpartition('/')[2]} OWNER {OWNER}")
    yield replace(generated, url=cluster.url(name))
    cluster.drop(cluster.url(name))


def step(rate: float, p99_s: float, failed: int = 0) -> Step:
    return Step(rate, 100, failed, 0.01, p99_s, 0, NO_CORES)


async def test_headcounts_are_taken_beside_bare_counts_of_the_same_schools(whole: Province) -> None:
    ours, bare, meals = await headcounts.compare(whole, schools=5)

    assert len(ours) == len(bare) == 5
    assert meals > 0


async def test_closing_makes_each_round_a_day_final_in_every_town_and_inserts_as_many_rows_bare(
    whole: Province,
) -> None:
    found = await closings.compare(whole, rounds=2)

    assert len(found[SIZE.towns]) == 2
    assert all(each.schools >= each.towns > 0 for each in found[SIZE.towns])
    assert whole.cluster.sql("SELECT count(DISTINCT day) >= 2 FROM closings", whole.url) == "t"
    # Each round leaves its rows behind.
    assert whole.cluster.sql("SELECT count(*) > 0 FROM bare_closings", whole.url) == "t"


async def test_changes_are_made_by_one_and_by_two_processes_and_by_pgbench(whole: Province) -> None:
    found = await changes.compare(whole, rounds=1, round_s=1.0, callers=4)

    assert list(found) == [1, 2]
    assert all(each.rate > 0 for ours, bare in found.values() for each in (*ours, *bare))
    assert whole.cluster.sql("SELECT count(*) > 0 FROM bare_change", whole.url) == "t"


async def test_a_rush_cancels_meals_on_two_gateways_while_their_tickers_close_days(whole: Province) -> None:
    rushed = await rush.rush_on(whole, 2, iter([10.0]), step_s=1.5)

    assert len(rushed.alone_s) == rush.ALONE
    assert [each.failed for each in (*rushed.steps, rushed.catching_up)] == [0, 0]
    assert whole.cluster.sql("SELECT count(*) > 0 FROM closings", whole.url) == "t"


def test_the_highest_rate_is_the_last_before_the_first_bend() -> None:
    steps = [step(40, 0.02), step(50, 0.02), step(62, 0.02, failed=1), step(78, 0.02), step(98, math.inf)]

    assert [each.is_bent for each in steps] == [False, False, True, False, True]
    assert Rushed([], steps, step(20, 0.02)).highest == steps[1]
    assert Rushed([], steps, step(20, 0.02)).half == steps[0]
