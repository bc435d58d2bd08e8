"""Which channels are in which group."""

from fastapi_channels.layers.groups import Groups


def test_who_is_in():
    groups = Groups(10.0)
    groups.add("g", "a")
    groups.add("g", "b")
    groups.add("g", "b")
    assert groups.members("g") == ["a", "b"]
    assert not groups.discard("g", "a")
    assert groups.discard("g", "b")
    assert groups.members("g") == groups.names == []


def test_who_is_not_in_cannot_leave():
    groups = Groups(10.0)
    groups.add("g", "a")
    assert not groups.discard("g", "b")
    assert not groups.discard("other", "a")
    assert "g" in groups


def test_who_was_added_too_long_ago_is_out():
    now = [0.0]
    groups = Groups(10.0, lambda: now[0])
    groups.add("g", "a")
    groups.add("g", "b")
    now[0] = 5.0
    groups.add("g", "b")
    now[0] = 10.0
    assert groups.members("g") == ["b"]
    now[0] = 15.0
    assert groups.members("g") == []
    assert "g" not in groups


def test_groups_that_nobody_sends_to_are_swept():
    now = [0.0]
    groups = Groups(10.0, lambda: now[0])
    assert groups.sweep() == []
    for group, channel in (("g", "a"), ("h", "a"), ("i", "b")):
        groups.add(group, channel)
    now[0] = 5.0
    groups.add("i", "b")
    assert groups.sweep() == []
    now[0] = 10.0
    assert groups.sweep() == ["g", "h"]
    assert groups.names == ["i"]
    now[0] = 19.0
    assert groups.sweep() == [], "not yet again"
    now[0] = 20.0
    assert groups.sweep() == ["i"]


def test_who_is_forgotten_is_out_of_all():
    groups = Groups(10.0)
    for group, channel in (("g", "a"), ("h", "a"), ("h", "b")):
        groups.add(group, channel)
    assert groups.forget("a") == ["g"]
    assert groups.members("h") == ["b"]
    assert groups.forget("a") == []
    assert groups.clear() == ["h"]
    assert groups.names == []
