"""What an engine is started with, as far as it changes when tokens come."""

from __future__ import annotations

from msgspec import Struct


class PagedRules(Struct, frozen=True):
    """vLLM's engine of version 1: blocks of KV cache, continuous batching, chunked prefill, preemption.

    ``max_sequences`` and ``step_tokens`` are its max_num_seqs and max_num_batched_tokens; ``blocks`` of
    ``block_tokens`` its num_gpu_blocks (take the measured number: the reserve for activations is the largest source
    of error in capacity). ``link_tokens`` is how much one link of a request's chain stands for, whole blocks.
    ``reserves_prompt`` lets nobody in for whose whole prompt there is no room, though it is computed in chunks.
    """

    blocks: int
    max_sequences: int = 256
    step_tokens: int = 8192
    block_tokens: int = 16
    context_tokens: int = 1 << 30
    prefix_caching: bool = True
    link_tokens: int = 512
    reserves_prompt: bool = True

    def __post_init__(self) -> None:
        if min(self.blocks, self.max_sequences, self.block_tokens, self.link_tokens) < 1:
            raise ValueError("Blocks, sequences and their sizes must be at least 1.")
        if self.step_tokens <= self.max_sequences:
            raise ValueError(
                "step_tokens must exceed max_sequences, or a full batch would leave no room for prompts."
            )
        if self.link_tokens % self.block_tokens:
            raise ValueError("link_tokens must be whole blocks.")

    @property
    def slots(self) -> int:
        """How many requests it works on at a time."""
        return self.max_sequences


class SlotRules(Struct, frozen=True):
    """llama.cpp's server: a fixed number of slots, each with its own context, which stays for the next request.

    ``slots`` is its n_parallel, ``slot_tokens`` the context of each, ``step_tokens`` its n_batch. An idle slot
    whose content begins like the prompt is taken if that is more than ``similarity`` of the prompt, else the one
    idle longest. ``opening_tokens`` are what all prompts begin with (a template): a slot that had one has them.
    """

    slots: int = 4
    slot_tokens: int = 4096
    step_tokens: int = 2048
    link_tokens: int = 32
    similarity: float = 0.1
    opening_tokens: int = 0

    def __post_init__(self) -> None:
        if min(self.slots, self.slot_tokens, self.link_tokens) < 1:
            raise ValueError("Slots and their sizes must be at least 1.")
        if self.step_tokens <= self.slots:
            raise ValueError("step_tokens must exceed slots, or full slots would leave no room for prompts.")
