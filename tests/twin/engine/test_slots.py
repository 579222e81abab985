"""What slots keep: what was in them, and the beginning that all prompts have."""

from underlay.twin.engine import SlotRules
from underlay.twin.engine.request import Request
from underlay.twin.engine.slots import SlotMemory


def served(memory, prompt_tokens, links=()):
    """A request takes a slot, is computed and leaves; how many tokens it found."""
    request = Request("r", prompt_tokens, 4, links)
    assert memory.assign(request)
    request.computed = prompt_tokens + 3
    memory.leaves(request)
    return request.cached_tokens


def test_a_slot_that_had_a_prompt_keeps_what_all_begin_with():
    memory = SlotMemory(SlotRules(slots=2, slot_tokens=1024, step_tokens=512, opening_tokens=100))
    assert [served(memory, 150) for _ in range(5)] == [0, 0, 100, 100, 100]
    assert served(memory, 60) == 59  # the last token of a prompt is always computed


def test_a_longer_beginning_that_is_known_counts_more():
    memory = SlotMemory(SlotRules(slots=1, slot_tokens=1024, step_tokens=512, link_tokens=32, opening_tokens=40))
    links = tuple(range(8))
    assert [served(memory, 256, links), served(memory, 256, links), served(memory, 256)] == [0, 255, 40]


def test_without_an_opening_nothing_is_found_that_nobody_asked():
    memory = SlotMemory(SlotRules(slots=1, slot_tokens=1024, step_tokens=512))
    assert [served(memory, 150), served(memory, 150)] == [0, 0]
