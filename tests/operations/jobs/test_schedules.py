"""When something is due."""

import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastapi_channels import ConfigurationError
from fastapi_channels.operations.jobs.schedules import DAY, SHORTEST, Schedule, cron, every

BERLIN = ZoneInfo("Europe/Berlin")


def following(schedule: Schedule, moment: float, number: int) -> list[float]:
    found = [schedule.after(moment)]
    while len(found) < number:
        found.append(schedule.after(found[-1]))
    return found


@given(st.floats(SHORTEST, 1e6), st.floats(0, 4e9))
def test_ticks_follow_each_other_whoever_counts_from_whenever(seconds: float, moment: float):
    schedule = every(seconds)
    ticks = following(schedule, moment, 4)
    assert ticks[0] > moment
    assert ticks[0] - moment <= seconds * 1.001
    assert all(later > earlier for earlier, later in pairwise(ticks))
    # A process that looks between two ticks finds the same float.
    assert schedule.after((ticks[1] + ticks[2]) / 2) == ticks[2]


def test_ticks_are_at_the_multiples():
    assert following(every(3600), datetime(2026, 5, 1, 9, 30, tzinfo=UTC).timestamp(), 2) == [
        datetime(2026, 5, 1, hour, tzinfo=UTC).timestamp() for hour in (10, 11)
    ]


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("30 9 * * MON-FRI", "UTC", "2026-05-01T09:30", ["2026-05-04T09:30+00:00", "2026-05-05T09:30+00:00"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["2028-02-29T00:00+00:00"]),
        ("*/20 * * * *", "Asia/Shanghai", "2026-05-01T09:59", ["2026-05-01T10:00+08:00"]),
        # In spring there is no half past two, in autumn there are two.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-29T00:00",
            ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"],
        ),
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-25T00:00",
            ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"],
        ),
        (
            "0 * * * *",
            "Europe/Berlin",
            "2026-10-25T02:00",
            ["2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"],
        ),
        # What recurs is due at each minute that the clocks show, and at none that they do not.
        (
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T02:30",
            ["2026-03-30T02:00+02:00", "2026-03-30T02:30+02:00"],
        ),
        (
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-10-25T02:00",
            ["2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00"],
        ),
        # Where a clock is changed by half an hour, and where it is changed at midnight.
        ("*/30 23 * * *", "Australia/Lord_Howe", "2026-04-05T03:00", ["2026-04-05T23:00+10:30"]),
        ("0 */2 * * *", "America/Havana", "2026-03-07T23:59", ["2026-03-08T02:00-04:00"]),
        ("0 0 * * *", "America/Havana", "2026-03-07T23:59", ["2026-03-08T01:00-04:00"]),
    ],
)
def test_what_a_cron_expression_names(expression: str, zone: str, after: str, expected: list[str]):
    moment = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone)).timestamp()
    found = following(cron(expression, zone), moment, len(expected))
    assert found == [datetime.fromisoformat(each).timestamp() for each in expected]


def test_the_hour_that_comes_twice_is_not_gone_through_twice():
    schedule = cron("45 2 * * *", BERLIN)
    again = datetime(2026, 10, 25, 2, 40, tzinfo=BERLIN, fold=1).timestamp()
    assert schedule.after(again) == datetime(2026, 10, 26, 2, 45, tzinfo=BERLIN).timestamp()


def changes(zone: ZoneInfo) -> list[float]:
    """When its clocks are changed in 2026."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    days = [begin + timedelta(days=number) for number in range(366)]
    halves = [
        (day + timedelta(hours=number / 2)).astimezone(zone)
        for day, following in pairwise(days)
        if day.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset()
        for number in range(49)
    ]
    return [later.timestamp() for at, later in pairwise(halves) if at.utcoffset() != later.utcoffset()]


def shown(zone: ZoneInfo, moment: float) -> datetime:
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None)


ZONES = ("Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "America/Santiago", "Antarctica/Troll")
"""At half past two, at midnight, by half an hour, southern, and by two hours."""
CHANGES = [(ZoneInfo(name), change) for name in ZONES for change in changes(ZoneInfo(name))]
minutes = st.sampled_from(["0", "30", "45", "*/10", "15-45/15"])
hours = st.sampled_from(["*", "2", "0", "1-3", "*/2", "23"])


@given(st.sampled_from(CHANGES), minutes, hours, st.floats(-7200, 7200))
@example((ZoneInfo("Australia/Lord_Howe"), CHANGES[4][1]), "*/10", "23", 0)
@example((ZoneInfo("America/Havana"), CHANGES[2][1]), "0", "*/2", -1)
@settings(max_examples=25)
def test_ticks_are_the_same_whoever_looks_from_whenever_the_clocks_are_changed(
    change: tuple[ZoneInfo, float], minute: str, hour: str, away: float
):
    (zone, moment), expression = change, f"{minute} {hour} * * *"
    schedule = cron(expression, zone)
    ticks = [schedule.after(moment - DAY)]
    while ticks[-1] <= moment + DAY:
        ticks.append(schedule.after(ticks[-1]))
    assert schedule.after(moment + away) == next(tick for tick in ticks if tick > moment + away)
    if "*" in minute + hour:
        # What a clock would name that is never changed, at each minute that this one shows.
        begin, end = shown(zone, moment - DAY), shown(zone, moment + DAY)
        named = {*takewhile(lambda at: at <= end, CronSim(expression, begin))}
        every_minute = (moment - DAY + 60 * number for number in range(1, 2 * 24 * 60 + 1))
        assert ticks[:-1] == [at for at in every_minute if shown(zone, at) in named]
    else:
        assert len({shown(zone, tick) for tick in ticks}) == len(ticks), "what is shown twice is due once"


@pytest.mark.parametrize(
    ("expression", "tz", "problem"),
    [
        ("* * * * * *", "UTC", "is no cron expression: Too many fields; it has five fields"),
        ("61 * * * *", "UTC", "is no cron expression: Bad minute; it has five fields"),
        ("* * *", "UTC", "is no cron expression: Wrong number of fields"),
        ("0 0 31 2 *", "UTC", "is no cron expression: Bad day-of-month"),
        (60, "UTC", "takes a text"),
        ("* * * * *", "Berlin", "there is no time zone 'Berlin'"),
        ("* * * * *", "../../etc", "there is no time zone"),
        ("* * * * *", 2, "tz takes the name of a time zone"),
    ],
)
def test_what_is_no_schedule_is_refused(expression: str, tz: str, problem: str):
    with pytest.raises(ConfigurationError, match=problem.replace("*", r"\*")):
        cron(expression, tz)


@pytest.mark.parametrize("seconds", [0, 0.01, -1, float("inf"), float("nan"), "60", True, None])
def test_what_is_no_period_is_refused(seconds: float):
    with pytest.raises(ConfigurationError, match=r"every\(\) takes 0.1 or more seconds, got "):
        every(seconds)


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ConfigurationError, match=r'pip install "fastapi-channels\[cron\]"'):
        cron("* * * * *", "UTC")
    assert every(1).after(0.0) == 1.0
