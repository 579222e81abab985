"""Which replica probably holds which beginning of a prompt in its cache?

Decided from what was routed where: what a replica computed it holds until newer things push it out. Prompts are
told apart by chains of hashes, one link per block of text; a link stands for everything up to its block (llm-d's
approximate index, vLLM's block hashes). Nothing tells when an engine drops something, so every reply's count of
cached tokens corrects how much a replica is taken to hold. It refuses to know text: blocks arrive as keyed digests.

What came together after the same beginning is a *segment*; a replica's segments are trees (SGLang's radix tree).
Only what nothing else begins with is dropped, from its end, so what a replica holds is closed under "what comes
before". That is why searches here halve the chain instead of walking along it, and why a request touches one
segment instead of each of its blocks: those lie all over memory, and took longer than the rest of routing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b

from .fleet import SCAN_MAX, Replica, Segment

#: Tokens of a block until prompts were counted: 128 bytes of English.
_BLOCK_TOKENS = 32.0
#: How much of a prompt's count remains after the next one: some fifty count.
_FADE = 0.98
#: What a reply that found nothing takes from the assumed size, and what one that found all gives back: at rest
#: one reply in sixteen disappoints.
_SHRINK = 1 / 8
_GROW = 1 / 128
#: However much disappoints, this many blocks, or this share of what was first assumed, are still believed in.
_BLOCKS_MIN = 64
_SHARE_MIN = 1 / 16


def root(model: str, adapter: str, template: str, tenant: str) -> int:
    """Where a chain starts: 64 bits that differ where nothing may be shared, the same in every process.

    Tenants share nothing, lest one learn by timing what another asked (I13).
    """
    told = blake2b(digest_size=8)
    for part in (model, adapter, template, tenant):
        encoded = part.encode()
        told.update(len(encoded).to_bytes(8, "big"))
        told.update(encoded)
    return int.from_bytes(told.digest(), "big")


def chain(start: int, blocks: Sequence[int]) -> list[int]:
    """Link a prompt's blocks: each link stands for all blocks up to its own.

    CPython's hash of a tuple of integers (xxHash's mixing; not salted, the same on every 64-bit machine) is twenty
    times as quick as a digest. It resists nobody, and need not: blocks are keyed digests that callers cannot
    choose, and a collision costs one detour, never a word of text.
    """
    link = start
    return [link := hash((link, block)) for block in blocks]


class _Cache:
    """What is made of a replica: segments that nothing begins with, oldest first, and what its replies showed.

    ``assumed`` is how many blocks it was first taken to hold, ``deaf`` how many replies are left out of account.
    """

    __slots__ = ("assumed", "deaf", "leaves")

    def __init__(self, assumed: int) -> None:
        self.assumed = assumed
        self.deaf = 0
        self.leaves: OrderedDict[Segment, None] = OrderedDict()


class PrefixIndex:
    """Which replicas of one pool hold which beginnings. Approximate, bounded, corrected by every reply.

    ``block_tokens`` is how many tokens a block has had. ``expected_tokens_total`` and ``cached_tokens_total`` are
    what was predicted to be found in caches, and what was. ``Replica.blocks`` is kept here.
    """

    __slots__ = (
        "_caches",
        "_holders",
        "_inserted",
        "_seen_blocks",
        "_seen_tokens",
        "block_tokens",
        "cached_tokens_total",
        "expected_tokens_total",
    )

    def __init__(self, block_tokens: float = _BLOCK_TOKENS) -> None:
        self.block_tokens = block_tokens
        self.expected_tokens_total = 0
        self.cached_tokens_total = 0
        self._seen_tokens = self._seen_blocks = 0.0
        # Most links have one holder: no dictionary for those. Dictionaries serve as sets that remember order.
        self._inserted = 0
        self._holders: dict[int, Replica | dict[Replica, None]] = {}
        self._caches: dict[Replica, _Cache] = {}

    # Asking.

    def held(self, replica: Replica, chain: Sequence[int], known: int = 0) -> int:
        """How many leading links of a chain the replica holds; ``known`` of them it does."""
        return _depth(replica.blocks, chain, known)

    def deepest(self, chain: Sequence[int]) -> tuple[int, Collection[Replica]]:
        """How many leading links somebody holds at most, and who holds those."""
        depth = _depth(self._holders, chain)
        return (depth, self.holders(chain[depth - 1])) if depth else (0, ())

    def holders(self, link: int) -> Collection[Replica]:
        """Who holds everything up to this link.

        Of more than ``SCAN_MAX`` those least recently given it come first: looking at the first few is fair.
        """
        found = self._holders.get(link)
        if found is None:
            return ()
        return found if isinstance(found, dict) else (found,)

    # Learning from what is routed.

    def insert(self, replica: Replica, chain: Sequence[int], known: int = 0) -> None:
        """Note that the replica will hold this chain, as soon as it is given the prompt; ``known`` links it holds.

        Not later: requests that come while the first is being computed should follow it.
        """
        self._inserted += 1
        blocks, bound = replica.blocks, replica.blocks_max
        cache = self._caches.get(replica)
        if cache is None:
            cache = self._caches[replica] = _Cache(bound)
        if len(chain) > bound:
            chain, known = chain[:bound], min(known, bound)
        depth = _depth(blocks, chain, known)
        if depth and len(self._caches) > SCAN_MAX:
            self._take_turns(replica, chain[min(len(chain) * 2 // 3, depth - 1) : depth])
        if depth == len(chain):
            if depth:
                self._touch(blocks[chain[-1]], cache)
            return
        self._grow(replica, cache, chain, depth)
        if len(blocks) > bound:
            self._evict(replica, cache)

    def _touch(self, segment: Segment, cache: _Cache) -> None:
        segment.touched = self._inserted
        if segment.children == 0:
            segment.queued = self._inserted
            cache.leaves.move_to_end(segment)

    def _grow(self, replica: Replica, cache: _Cache, chain: Sequence[int], depth: int) -> None:
        """Add what comes after the first ``depth`` links."""
        blocks = replica.blocks
        parent = blocks[chain[depth - 1]] if depth else None
        if parent is not None:
            if parent.links[-1] != chain[depth - 1]:
                parent = self._split(parent, chain[depth - 1], blocks)
            if parent.children == 0:
                del cache.leaves[parent]
            parent.children += 1
        segment = Segment(list(chain[depth:]), parent, self._inserted)
        holders = self._holders
        for link in segment.links:
            blocks[link] = segment
            if link in holders:
                self._share(link, replica)
            else:
                holders[link] = replica
        cache.leaves[segment] = None

    def _split(self, segment: Segment, link: int, blocks: dict[int, Segment]) -> Segment:
        """Cut a segment behind a link; returns the first part. The rest stays, with all that begins with it."""
        end = segment.links.index(link) + 1
        head = Segment(segment.links[:end], segment.parent, segment.queued)
        head.children = 1
        for each in head.links:
            blocks[each] = head
        segment.links = segment.links[end:]
        segment.parent = head
        return head

    def _share(self, link: int, replica: Replica) -> None:
        found = self._holders[link]
        if isinstance(found, dict):
            found[replica] = None
        else:
            self._holders[link] = {found: None, replica: None}

    def _take_turns(self, replica: Replica, links: Sequence[int]) -> None:
        """Where many hold the same, who was given it last goes last: looking at the first few stays fair."""
        for link in links:
            found = self._holders[link]
            if isinstance(found, dict) and len(found) > SCAN_MAX:
                del found[replica]
                found[replica] = None

    def _evict(self, replica: Replica, cache: _Cache) -> None:
        """Drop what was not used for longest and nothing begins with, block by block from its end."""
        blocks, leaves, holders = replica.blocks, cache.leaves, self._holders
        while len(blocks) > replica.blocks_max:
            segment = next(iter(leaves))
            if segment.touched > segment.queued:  # it was asked for by itself since
                segment.queued = segment.touched
                leaves.move_to_end(segment)
                continue
            link = segment.links.pop()
            del blocks[link]
            if holders[link] is replica:  # ``_drop``, spelled out where nobody else holds it
                del holders[link]
            else:
                self._drop(link, replica)
            if not segment.links:
                self._fell(segment, leaves)

    def _fell(self, segment: Segment, leaves: OrderedDict[Segment, None]) -> None:
        """A segment is empty: what it began with may be next."""
        del leaves[segment]
        parent = segment.parent
        if parent is not None:
            parent.children -= 1
            if parent.children == 0:
                leaves[parent] = None
                leaves.move_to_end(parent, last=False)

    def _drop(self, link: int, replica: Replica) -> None:
        found = self._holders[link]
        if isinstance(found, dict):
            del found[replica]
            if len(found) == 1:
                self._holders[link] = next(iter(found))
        else:
            del self._holders[link]

    # Learning from replies.

    def learn(self, prompt_tokens: int, blocks: int) -> None:
        """Note how many tokens a prompt of so many whole blocks had; half a block is left over on average."""
        if blocks > 0 and prompt_tokens > 0:
            self._seen_tokens = self._seen_tokens * _FADE + prompt_tokens
            self._seen_blocks = self._seen_blocks * _FADE + blocks + 0.5
            self.block_tokens = self._seen_tokens / self._seen_blocks

    def correct(self, replica: Replica, expected_tokens: int, cached_tokens: int) -> None:
        """Compare what a reply found cached with what was expected of it when it was routed.

        Less than half: something newer pushed it out, though no more than ``len(blocks)`` were held, so the cache
        is smaller than that, and the assumed size shrinks from there (by an eighth, if nothing was found). Four
        fifths or more while the bound is felt: it grows by a 128th, up to what was assumed at first. This is how
        TCP finds the width of a path, and as there one loss is one event: replies to requests that were already
        running when the size shrank may have missed for the same reason (or because they all started together
        and nothing was cached yet), so that many are left out of account.
        """
        self.expected_tokens_total += expected_tokens
        self.cached_tokens_total += cached_tokens
        cache = self._caches.get(replica)
        if cache is None or expected_tokens <= 0:
            return
        if cache.deaf > 0:
            cache.deaf -= 1
        elif cached_tokens * 2 < expected_tokens:
            self._shrink(replica, cache, 1.0 - cached_tokens / expected_tokens)
        elif cached_tokens * 5 >= expected_tokens * 4 and len(replica.blocks) >= replica.blocks_max:
            replica.blocks_max = min(cache.assumed, replica.blocks_max + int(replica.blocks_max * _GROW) + 1)

    def _shrink(self, replica: Replica, cache: _Cache, missing_share: float) -> None:
        least = min(cache.assumed, max(_BLOCKS_MIN, int(cache.assumed * _SHARE_MIN)))
        held = min(replica.blocks_max, len(replica.blocks))
        replica.blocks_max = max(least, int(held * (1.0 - _SHRINK * missing_share)))
        cache.deaf = replica.load
        self._evict(replica, cache)

    def forget(self, replica: Replica) -> None:
        """Note that its cache is empty: it restarted, or is gone. What it may hold is as at first."""
        for link in replica.blocks:
            self._drop(link, replica)
        replica.blocks.clear()
        cache = self._caches.pop(replica, None)
        if cache is not None:
            replica.blocks_max = cache.assumed

    def check(self, replicas: Iterable[Replica]) -> None:
        """Verify that both directions agree and bounds hold; raises ``AssertionError``."""
        pairs = 0
        for replica in replicas:
            held = len(replica.blocks)
            pairs += held
            assert held <= replica.blocks_max, f"{replica.name} is taken to hold {held} blocks"
            assert all(replica in self.holders(link) for link in replica.blocks), f"{replica.name} is not listed"
            self._check_trees(replica)
        listed = sum(len(self.holders(link)) for link in self._holders)
        assert listed == pairs, f"{listed} holders are listed, but {pairs} blocks are held"

    def _check_trees(self, replica: Replica) -> None:
        segments = dict.fromkeys(replica.blocks.values())
        assert sum(len(segment.links) for segment in segments) == len(replica.blocks)
        children = [segment.parent for segment in segments if segment.parent is not None]
        for segment in segments:
            assert all(replica.blocks[link] is segment for link in segment.links), "a link is in another segment"
            assert segment.children == children.count(segment), "children and parents differ"
            leaf = segment in self._caches[replica].leaves
            assert leaf == (segment.children == 0), "a segment that begins others could be dropped, or none could"


def _depth(blocks: Collection[int], chain: Sequence[int], known: int = 0) -> int:
    """How many leading links are in ``blocks``; all before one that is are, and the first ``known`` are."""
    high = len(chain)
    if known >= high or chain[known] not in blocks:
        return min(known, high)
    if chain[-1] in blocks:
        return high
    low, high = known + 1, high - 1  # the answer lies between, both included
    while low < high:
        middle = (low + high + 1) >> 1
        if chain[middle - 1] in blocks:
            low = middle
        else:
            high = middle - 1
    return low
