from __future__ import annotations

from math import inf

from underlay.twin.world.sharing import Link, StreamClass, fill, reach


def classes_on(*asked: tuple[tuple[Link, ...], float, int]) -> dict[StreamClass, None]:
    """One class for each path, ceiling and count of streams."""
    found: dict[StreamClass, None] = {}
    for place, (path, ceiling, count) in enumerate(asked):
        of = StreamClass(((str(place),), ceiling), path, 0.0)
        of.count = count
        found[of] = None
        for link in path:
            link.classes[of] = None
    return found


def link(name: str, capacity: float) -> Link:
    return Link(name, capacity, 0.0, 0.0)


def test_all_rise_together_until_something_is_full():
    # Five sessions over four links of 1, as in the textbook: 1/3 on the link of three, then what that leaves.
    links = {link(name, 1.0): None for name in "abcd"}
    a, b, c, d = links
    classes = classes_on(((a, b), inf, 1), ((b,), inf, 2), ((a, c), inf, 1), ((c, d), inf, 1))
    shares = [round(rate, 9) for rate in fill(links, classes)]
    assert shares == [round(1 / 3, 9), round(1 / 3, 9), 0.5, 0.5]


def test_a_ceiling_leaves_the_rest_to_others_by_head_and_not_by_class():
    shared = link("shared", 10.0)
    classes = classes_on(((shared,), 1.0, 4), ((shared,), inf, 2), ((shared,), inf, 1))
    assert fill({shared: None}, classes) == [1.0, 2.0, 2.0]


def test_nothing_is_left_of_a_link_that_is_cut():
    cut, whole = link("cut", 1.0), link("whole", 4.0)
    cut.capacity_bytes_s = 0.0
    classes = classes_on(((cut, whole), inf, 3), ((whole,), inf, 2))
    assert fill({cut: None, whole: None}, classes) == [0.0, 2.0]


def test_only_what_is_joined_by_streams_is_reached():
    a, b, c, d = (link(name, 1.0) for name in "abcd")
    joined = list(classes_on(((a, b), inf, 1), ((b, c), inf, 1), ((d,), inf, 1)))
    links: dict[Link, None] = {a: None}
    classes: dict[StreamClass, None] = {}
    reach(a, links, classes)
    assert (list(links), list(classes)) == ([a, b, c], joined[:2])
