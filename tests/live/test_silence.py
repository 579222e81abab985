"""When is a replica so silent that somebody should ask whether it lives?"""

from underlay.live.silence import QUIET_S, Silence


class House:
    def __init__(self):
        self.now, self.loads, self.told = 0.0, {"a": 1, "b": 1}, []
        self.silence = Silence(lambda: self.now, lambda name: self.loads.get(name, 0), self.tell)
        self.voices = {name: self.silence.voice(name) for name in "ab"}

    def tell(self, name, silent):
        self.told.append((name, silent))

    def pass_time(self, seconds, *, speaks=""):
        for _ in range(round(seconds / 0.1)):
            self.now += 0.1
            for name in speaks:
                self.voices[name].heard_at = self.now
            self.silence.look()

    @property
    def names(self):
        return [name for name, _ in self.told]


def test_only_the_silent_one_is_told_and_again_after_as_long():
    house = House()
    house.pass_time(0.9 * QUIET_S, speaks="b")
    assert house.names == []
    house.pass_time(0.3 * QUIET_S, speaks="b")
    assert house.names == ["a"]
    house.pass_time(2.5 * QUIET_S, speaks="b")
    assert house.names == ["a", "a", "a"]


def test_one_word_ends_the_silence():
    house = House()
    house.pass_time(1.2 * QUIET_S, speaks="b")
    ((_, silent),) = house.told
    assert silent()
    house.voices["a"].heard_at = house.now
    assert not silent()
    house.pass_time(0.9 * QUIET_S, speaks="ab")
    assert house.names == ["a"]


def test_without_work_nobody_is_silent_and_work_counts_from_its_beginning():
    house = House()
    house.loads["a"] = 0
    house.pass_time(10 * QUIET_S, speaks="b")
    house.loads["a"] = 1
    house.pass_time(0.9 * QUIET_S, speaks="b")
    assert house.names == []
    house.pass_time(0.3 * QUIET_S, speaks="b")
    assert house.names == ["a"]


def test_asking_a_silent_replica_more_does_not_make_it_speak():
    house = House()
    for _ in range(12):
        house.silence.voice("a")  # as every new attempt does
        house.pass_time(0.1 * QUIET_S, speaks="b")
    assert house.names == ["a"]
