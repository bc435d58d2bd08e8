"""The integers that things are counted with."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as Reference

from fastapi_channels.operations.families import LONG, QUICK
from fastapi_channels.operations.figures import MAX_SERIES, OTHER, Counter, Histogram


@given(
    st.lists(st.one_of(st.floats(0, 1e6), st.sampled_from([*QUICK, *LONG]))), st.sampled_from([QUICK, LONG])
)
def test_a_histogram_is_that_of_prometheus_client(times: list[float], bounds: tuple[float, ...]):
    ours, theirs = Histogram(bounds), Reference("x", "x", buckets=bounds, registry=CollectorRegistry())
    for seconds in times:
        ours.add(seconds)
        theirs.observe(seconds)
    (metric,) = theirs.collect()
    expected = {
        (sample.name.removeprefix("x"), tuple(sample.labels.values())): sample.value
        for sample in metric.samples
        if sample.name != "x_created"
    }
    assert {(end, tuple(labels)): figure for end, labels, figure in ours.samples(())} == expected


def test_a_counter_counts_each_series_from_its_first():
    counter = Counter()
    counter.expect("Room", "none")
    for code in ("a", "b", "a"):
        counter.add("Room", code)
    assert counter.samples() == [
        ("_total", ["Room", "none"], 0),
        ("_total", ["Room", "a"], 2),
        ("_total", ["Room", "b"], 1),
    ]


def test_the_number_of_series_is_bounded():
    counter = Counter()
    for number in range(2 * MAX_SERIES):
        counter.add("Room", str(number))
    samples = counter.samples()
    assert len(samples) == MAX_SERIES + 1
    assert samples[-1] == ("_total", [OTHER, OTHER], MAX_SERIES)
