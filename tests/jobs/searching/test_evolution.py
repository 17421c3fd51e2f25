"""Evolution: it finds what a score prefers, and what it asks depends on nothing but seed and what was told."""

from __future__ import annotations

from tutelage.jobs.searching.evolution import Evolution
from tutelage.students.space import Space

SPACE = Space({name: tuple(range(8)) for name in "abcde"}, "a={a},b={b},c={c},d={d},e={e}")
START = dict.fromkeys("abcde", 0)


def anything(candidate):
    return True


def worth(candidate):
    return -float(sum((v - 5) ** 2 for v in candidate.values()))


def searched(count, population, told=(), seed=0):
    evolution, known = Evolution(SPACE, seed, population=population, parents=4), set()
    for candidate, score in told:
        evolution.tell(candidate, score)
        known.add(SPACE.written(candidate))
    while len(evolution.told) < count:
        found = evolution.ask(lambda c: SPACE.written(c) not in known, anything, START)
        known.add(SPACE.written(found))
        evolution.tell(found, worth(found))
    return evolution.told


def test_it_finds_better_ones_than_chance():
    """A parent chosen among the worst, as a sign slip makes it, would do worse than drawing."""
    bred = [max(s for _, s in searched(150, 20, seed=seed)) for seed in range(5)]
    drawn = [max(s for _, s in searched(150, 150, seed=seed)) for seed in range(5)]
    assert all(a >= b for a, b in zip(bred, drawn, strict=True))
    assert sum(bred) >= sum(drawn) + 5


def test_a_stopped_search_asks_what_an_unbroken_one_asks():
    whole = searched(60, 10)
    for cut in (0, 3, 10, 37):
        assert searched(60, 10, whole[:cut]) == whole
    assert searched(30, 10, seed=1) != whole[:30]


def test_nothing_is_asked_twice_and_a_small_space_ends():
    space, known = Space({"a": (1, 2, 3), "b": (1, 2)}, "x:a={a},b={b}"), set()
    evolution = Evolution(space, 0, population=2, parents=1)
    while (found := evolution.ask(lambda c: space.written(c) not in known, anything, {"a": 1, "b": 1})) is not None:
        known.add(space.written(found))
        evolution.tell(found, 0.0)
    assert len(known) == len(evolution.told) == space.size


def test_a_tight_budget_is_found_from_the_cheapest_on():
    """One candidate in a thousand fits; drawing would take a night."""
    looked = []

    def within(candidate):
        looked.append(candidate)
        return sum(candidate.values()) <= 2

    evolution, known = Evolution(SPACE, 0, population=50, parents=4), set()
    for _ in range(8):
        found = evolution.ask(lambda c: SPACE.written(c) not in known, within, START)
        assert sum(found.values()) <= 2
        known.add(SPACE.written(found))
        evolution.tell(found, worth(found))
    assert len(known) == 8
    assert len(looked) < 1000
    assert len({SPACE.encode(c)[0] for c, _ in evolution.told}) > 1


def test_the_oldest_dies():
    """A lucky score must not breed for ever."""
    for seed in range(5):
        evolution = Evolution(SPACE, seed, population=3, parents=1, cross=0.0)
        for value, score in ((7, 9.0), (0, 1.0), (1, 3.0), (2, 2.0)):
            evolution.tell(dict.fromkeys("abcde", value), score)
        asked = list(evolution.ask(anything, anything, START).values())
        assert asked.count(1) > asked.count(7)
