"""Engines walked step by step and token by token, as plainly as can be: what the quick ones are held against.

Every sequence is looked at in every step, every block of memory is taken when it is needed, every sum is made anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any

from underlay.physics.step_time import StepCoefficients, attention_pairs
from underlay.twin.engine import PagedRules, SlotRules


@dataclass(eq=False)
class Sequence:
    name: int
    at: float
    prompt_tokens: int
    goal: int
    links: tuple[int, ...] = ()
    cancel_at: float = inf
    computed: int = 0
    produced: int = 0
    held: int = 0
    decodes: bool = False
    slot: int = -1
    cached_tokens: int = 0
    preemptions: int = 0
    first_token_at: float | None = None
    finished_at: float | None = None

    @property
    def target(self) -> int:
        return self.prompt_tokens + self.produced


@dataclass
class Walker:
    """What both engines share: the clock, the queue, the steps."""

    times: StepCoefficients
    step_tokens: int
    max_sequences: int
    now: float = 0.0
    coming: list[Sequence] = field(default_factory=list)
    waiting: list[Sequence] = field(default_factory=list)
    running: list[Sequence] = field(default_factory=list)
    most_used: int = 0

    def run(self, sequences: list[Sequence]) -> None:
        self.coming = sorted(sequences, key=lambda s: s.at)
        while self.coming or self.waiting or self.running:
            while self.coming and self.coming[0].at <= self.now:
                self.waiting.append(self.coming.pop(0))
            self.waiting = [s for s in self.waiting if s.cancel_at > self.now]
            chosen = self.choose()
            if chosen:
                self.step(chosen)
            else:
                assert not self.waiting
                assert not self.running
                if self.coming:
                    self.now = self.coming[0].at

    def step(self, chosen: list[tuple[Sequence, int]]) -> None:
        decoding = [s for s, _ in chosen if s.decodes]
        filling = [(s, chunk) for s, chunk in chosen if not s.decodes]
        pairs = sum(attention_pairs(chunk, s.computed) for s, chunk in filling)
        kv_tokens = sum(s.computed + 1 for s in decoding)
        self.now += self.times.step_s(sum(chunk for _, chunk in filling), len(decoding), kv_tokens, pairs)
        for sequence, tokens in chosen:
            sequence.computed += tokens
            if sequence.computed == sequence.target:
                sequence.produced += 1
                sequence.decodes = True
                if sequence.first_token_at is None:
                    sequence.first_token_at = self.now
        for sequence in sorted(self.running, key=lambda s: s.cancel_at):
            if sequence.cancel_at <= self.now:
                self.leave(sequence)
        for sequence in list(self.running):
            if sequence.produced == sequence.goal:
                sequence.finished_at = self.now
                self.leave(sequence)

    def choose(self) -> list[tuple[Sequence, int]]:
        raise NotImplementedError

    def leave(self, sequence: Sequence) -> None:
        raise NotImplementedError


class PagedWalker(Walker):
    def __init__(self, rules: PagedRules, times: StepCoefficients) -> None:
        super().__init__(times, rules.step_tokens, rules.max_sequences)
        self.rules = rules
        self.link_blocks = rules.link_tokens // rules.block_tokens
        self.free: list[list[Any]] = [[None, rules.blocks]]  # what is in them, how many; next to be taken first
        self.holders: dict[int, int] = {}

    def blocks(self, tokens: int) -> int:
        return ceil(tokens / self.rules.block_tokens)

    def free_blocks(self) -> int:
        return sum(blocks for _, blocks in self.free)

    def take(self, wanted: int) -> bool:
        if wanted > self.free_blocks():
            return False
        while wanted:
            what, blocks = self.free.pop(0)
            if blocks > wanted:
                self.free.insert(0, [None if isinstance(what, int) else what, blocks - wanted])
            wanted -= min(blocks, wanted)
        return True

    def choose(self) -> list[tuple[Sequence, int]]:
        chosen: list[tuple[Sequence, int]] = []
        left = self.step_tokens
        preempted = False
        index = 0
        while index < len(self.running):
            sequence = self.running[index]
            tokens = 1 if sequence.decodes else min(left, sequence.target - sequence.computed)
            while not self.compute(sequence, tokens):
                preempted = True
                victim = self.running[-1]
                self.preempt(victim)
                if victim is sequence:
                    break
            else:
                chosen.append((sequence, tokens))
                left -= tokens
                index += 1
                continue
            break
        while not preempted and left and self.waiting and len(self.running) < self.max_sequences:
            sequence = self.waiting[0]
            if not self.let_in(sequence, left):
                break
            self.running.append(self.waiting.pop(0))
            tokens = min(left, sequence.target - sequence.computed)
            assert self.compute(sequence, tokens)
            chosen.append((sequence, tokens))
            left -= tokens
        self.most_used = max(self.most_used, self.rules.blocks - self.free_blocks())
        return chosen

    def compute(self, sequence: Sequence, tokens: int) -> bool:
        wanted = self.blocks(sequence.computed + tokens) - self.blocks(sequence.computed)
        if wanted > self.free_blocks():
            return False
        if self.rules.prefix_caching and not sequence.decodes:
            self.hold(sequence, sequence.computed + tokens)
        return self.take(wanted)

    def hold(self, sequence: Sequence, tokens: int) -> None:
        """Links that are computed now are held by name; where another copy is about, this one is spared."""
        for link in sequence.links[sequence.held : tokens // self.rules.link_tokens]:
            if link in self.holders or [link, self.link_blocks] in self.free:
                if link not in self.holders:
                    self.free.remove([link, self.link_blocks])
                self.free.insert(0, [None, self.link_blocks])
            self.holders[link] = self.holders.get(link, 0) + 1
            sequence.held += 1

    def let_in(self, sequence: Sequence, left: int) -> bool:
        rules, target = self.rules, sequence.target
        asleep = {what for what, _ in self.free if isinstance(what, int)}
        found = 0
        own = 0
        if rules.prefix_caching:
            while found < min(len(sequence.links), (target - 1) // rules.link_tokens) and (
                sequence.links[found] in self.holders or sequence.links[found] in asleep
            ):
                found += 1
            if found == min(len(sequence.links), (target - 1) // rules.link_tokens):
                kept = sum(blocks for what, blocks in self.free if what is sequence)
                own = min(kept, (target - 1) // rules.block_tokens - found * self.link_blocks) if kept else 0
        cached = found * self.link_blocks + own
        wanted = target if rules.reserves_prompt else min(target, cached * rules.block_tokens + left)
        waking = own + sum(self.link_blocks for link in sequence.links[:found] if link in asleep)
        if self.blocks(wanted) - cached + waking > self.free_blocks():
            return False
        for entry in list(self.free):
            if entry[0] is sequence:
                self.free.remove(entry)
                if entry[1] - own:
                    self.free.insert(0, [None, entry[1] - own])
        for link in sequence.links[:found]:
            if link in asleep:
                self.free.remove([link, self.link_blocks])
            self.holders[link] = self.holders.get(link, 0) + 1
        sequence.held = found
        sequence.computed = cached * rules.block_tokens
        if not sequence.preemptions:
            sequence.cached_tokens = sequence.computed
        return True

    def release(self, sequence: Sequence, what: Any) -> None:
        self.running.remove(sequence)
        if self.rules.prefix_caching:
            self.hold(sequence, sequence.computed)
        own = self.blocks(sequence.computed) - sequence.held * self.link_blocks
        if own:
            self.free.append([what, own])
        for link in reversed(sequence.links[: sequence.held]):
            self.holders[link] -= 1
            if not self.holders[link]:
                del self.holders[link]
                self.free.append([link, self.link_blocks])
        sequence.held = 0

    def leave(self, sequence: Sequence) -> None:
        self.release(sequence, None)

    def preempt(self, sequence: Sequence) -> None:
        self.release(sequence, sequence)
        sequence.computed = 0
        sequence.decodes = False
        sequence.preemptions += 1
        self.waiting.insert(0, sequence)


class SlotWalker(Walker):
    def __init__(self, rules: SlotRules, times: StepCoefficients) -> None:
        super().__init__(times, rules.step_tokens, rules.slots)
        self.rules = rules
        self.contents: list[tuple[int, ...]] = [()] * rules.slots
        self.idle = list(range(rules.slots))

    def choose(self) -> list[tuple[Sequence, int]]:
        while self.waiting and self.idle:
            sequence = self.waiting.pop(0)
            shared = {slot: self.shared(slot, sequence) for slot in self.idle}
            slot = max(self.idle, key=lambda slot: shared[slot])
            if shared[slot] * self.rules.link_tokens <= self.rules.similarity * sequence.prompt_tokens:
                slot = self.idle[0]
            self.idle.remove(slot)
            sequence.slot = slot
            sequence.cached_tokens = min(shared[slot] * self.rules.link_tokens, sequence.prompt_tokens - 1)
            sequence.computed = sequence.cached_tokens
            self.running.append(sequence)
        chosen = [(s, 1) for s in self.running if s.decodes]
        left = self.step_tokens - len(chosen)
        for sequence in sorted(self.running, key=lambda s: s.slot):
            if not sequence.decodes and left:
                tokens = min(left, sequence.target - sequence.computed)
                chosen.append((sequence, tokens))
                left -= tokens
        return chosen

    def shared(self, slot: int, sequence: Sequence) -> int:
        held = self.contents[slot]
        common = 0
        while common < min(len(held), len(sequence.links)) and held[common] == sequence.links[common]:
            common += 1
        return common

    def leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.contents[sequence.slot] = sequence.links[: sequence.computed // self.rules.link_tokens]
        self.idle.append(sequence.slot)
