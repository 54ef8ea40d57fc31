"""Which processes live, on many machines: beats, looks and times without a clock, and a model of two servers."""

import math

import pytest

from dotflow.providers.histories.postgres.beats import RHYTHM, Found, Heartbeat, Still, Watcher
from tests.beat_model import ALONE, RULES, TROUBLES, Violation, explore

#: What shows that each rule is needed, one trouble at a time but where there are two.
SHOWN_BY = {
    "no clock of the database": ("jump",),
    "answered time only": ("outage",),
    "the number again": ("freeze",),
    "nothing begins after 30 s": ("cut off",),
    "the lease is released": ("cut off",),
    "restores with the lease": ("cut off",),
    "reconcile": ("lost claim",),
    "the beats that it sent": ("lost beat",),
    "no row, a new one": ("freeze",),
    "claims hold their row": ("failover",),
    "a new number": ("freeze",),
    "the token of the lease": ("freeze",),
    "orders in the take-over": ("kill", "cancel"),
    "an end needs its row": ("freeze",),
}
#: Those that a second or two of exploring show.
QUICK = {
    "no clock of the database",
    "the lease is released",
    "reconcile",
    "the beats that it sent",
    "claims hold their row",
    "orders in the take-over",
}


def look_for(seconds: float, watcher: Watcher, rows: dict[int, int], start: float) -> Watcher:
    """Looks once a second."""
    for second in range(math.ceil(seconds) + 1):
        watcher = watcher.look(rows, start + second, start + second)
    return watcher


def test_a_beat_that_stands_still_for_45_answered_seconds_is_that_of_a_dead_process() -> None:
    """One second less is not enough, and a beat that changed begins again."""
    watcher = look_for(44, Watcher(), {1: 7, 2: 8}, 100.0)

    assert not watcher.dead()
    assert watcher.look({1: 7, 2: 9}, 145.0, 145.0).dead() == {1: 7}


def test_time_without_answers_kills_no_process() -> None:
    """The database was away for five minutes: the seconds before and after it count, those between do not."""
    before = look_for(40, Watcher(), {1: 7}, 0.0)
    after = before.look({1: 7}, 340.0, 340.0)

    assert after.beats == {1: Still(7, 40.0)}
    assert look_for(5, after, {1: 7}, 340.0).dead() == {1: 7}


def test_an_answer_that_takes_long_counts_for_no_time() -> None:
    """What was read may be as old as the question."""
    watcher = Watcher().look({1: 7}, 0.0, 0.0)

    assert watcher.look({1: 7}, 1.0, 4.0).beats == {1: Still(7, 0.0)}
    assert watcher.look({1: 7}, 1.0, 2.0).look({1: 7}, 2.5, 2.5).beats == {1: Still(7, 1.5)}


def test_a_row_that_is_gone_is_forgotten() -> None:
    """A new one of the same key begins without the seconds of the old one."""
    watcher = look_for(44, Watcher(), {1: 7}, 0.0).look({}, 45.0, 45.0)

    assert watcher.look({1: 7}, 46.0, 46.0).beats == {1: Still(7, 0.0)}


def test_what_a_process_may_do_depends_on_when_its_last_answered_beat_was_sent() -> None:
    """Sent, not answered: the row may have changed at any time in between."""
    heart = Heartbeat.new(1, 7, 100.0).sending(8, 110.0)

    assert heart.may_take_over(115.0)
    assert not heart.may_take_over(115.1)
    assert heart.may_begin(129.9)
    assert not heart.may_begin(130.0)
    assert heart.is_released(145.0)
    assert not heart.is_released(144.9)
    assert heart.changed().may_begin(139.9)


def test_a_beat_whose_answer_was_lost_is_sent_again_with_the_same_number() -> None:
    """So there is one number that may have come, however long the database is away."""
    heart = Heartbeat.new(1, 7, 0.0)
    for number in range(1_000):
        heart = heart.sending(100 + number, 10.0 + 2 * number)

    assert [beat for beat, _ in heart.sent] == [7, 100]
    assert heart.due == 10.0 + 2 * 999 + RHYTHM.retry
    found, known = heart.unchanged(100, 2_010.0)
    assert (found, known.beat, known.answered, known.due) == (Found.OWN, 100, 10.0, 2_010.0)
    assert known.sending(5, 2_010.0).changed().beat == 5


def test_a_failover_that_loses_the_last_beats_ends_no_process() -> None:
    """The row has one that the process has sent before; it goes on from there, by a number that no row had."""
    heart = Heartbeat.new(1, 7, 0.0).sending(8, 10.0).changed().sending(9, 20.0).changed()

    found, known = heart.sending(10, 30.0).unchanged(8, 31.0)

    assert (found, known.beat, known.answered, known.pending) == (Found.OWN, 8, 10.0, None)
    assert known.sending(11, 31.0).changed().answered == 31.0


def test_the_beat_of_another_process_in_its_row_is_that_of_a_twin() -> None:
    """A machine was cloned while it ran."""
    assert Heartbeat.new(1, 7, 0.0).sending(8, 10.0).unchanged(99, 11.0)[0] is Found.TWIN


def test_without_its_row_a_process_was_taken_over() -> None:
    """It needs another row, with another key."""
    assert Heartbeat.new(1, 7, 0.0).sending(8, 10.0).unchanged(None, 11.0)[0] is Found.NONE


def test_old_beats_are_forgotten_once_newer_ones_were_answered() -> None:
    """Five minutes of them are known: a standby that is further behind has lost more than beats."""
    heart = Heartbeat.new(1, 0, 0.0)
    for number in range(1, 100):
        heart = heart.sending(number, 10.0 * number).changed()

    assert 30 <= len(heart.sent) <= 33


def test_a_run_ends_and_the_promises_hold_whatever_one_trouble_comes_between() -> None:
    """The nearest states with each kind of trouble; `make test-all` visits all of them."""
    assert explore(0) > 600
    assert explore(1, 2_000) == 2_000


@pytest.mark.exhaustive
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_each_trouble_by_itself_breaks_no_promise(trouble: str) -> None:
    """Each state that can be reached with it."""
    assert explore(1, None, "", (trouble,)) > 600


@pytest.mark.exhaustive
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(("troubles", "states"), [(("kill", "cancel"), None), (TROUBLES, 120_000), (ALONE, 60_000)])
def test_two_troubles_break_no_promise(troubles: tuple[str, ...], states: int | None) -> None:
    """All states of kill and cancel, and the nearest ones of any two."""
    assert explore(2, states, "", troubles) > 4_000


@pytest.mark.parametrize(
    "rule", [rule if rule in QUICK else pytest.param(rule, marks=pytest.mark.exhaustive) for rule in RULES]
)
def test_without_one_of_its_rules_a_promise_is_broken(rule: str) -> None:
    """So the model can fail, and each rule is needed."""
    troubles = SHOWN_BY[rule]

    with pytest.raises(Violation):
        explore(len(troubles), None, rule, troubles)


class TestNews:
    """Whether anything but beats was committed between two looks."""

    def follows(self, old: str, new: str, *beats: int) -> bool:
        before = Watcher().look({1: 10, 2: 20}, 0.0, 0.0)
        return before.look(dict(enumerate(beats, 1)), 1.0, 1.0).follows(before, old, new)

    def test_nothing_is_no_news(self) -> None:
        assert self.follows("7:7:", "7:7:", 10, 20)
        assert self.follows("5:7:5", "5:7:5", 10, 20)

    def test_as_many_transactions_as_new_beats_are_theirs(self) -> None:
        assert self.follows("7:7:", "8:8:", 11, 20)
        assert self.follows("7:7:", "9:9:", 11, 21)

    def test_more_transactions_than_beats_are_news(self) -> None:
        assert not self.follows("7:7:", "8:8:", 10, 20)
        assert not self.follows("7:7:", "9:9:", 11, 20)

    def test_what_was_not_over_at_a_look_may_be_by_the_other(self) -> None:
        assert not self.follows("6:7:6", "8:8:", 11, 20)
        assert not self.follows("7:7:", "7:8:7", 11, 20)

    def test_a_process_that_comes_or_goes_is_news(self) -> None:
        assert not self.follows("7:7:", "8:8:", 10)
        assert not self.follows("7:7:", "8:8:", 10, 20, 30)

    def test_the_first_look_is_news(self) -> None:
        assert not self.follows("", "7:7:", 10, 20)

    def test_a_beat_that_stands_still_is_late(self) -> None:
        watcher = Watcher()
        for second in range(17):
            watcher = watcher.look({1: 10, 2: 20}, float(second), float(second))
        assert watcher.late() == {1: 16.0, 2: 16.0}
