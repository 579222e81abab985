"""Which slot of an engine a request may use, so that no tenant can feel another's prompt in the prefix cache.

llama.cpp keeps in each slot what it read there last, and a request that begins alike is answered sooner: whoever
measures that learns what others asked. It knows no salt, so the slots are kept apart here. A request is pinned to
a slot (then neither another slot's memory nor the host's is looked at), and where the slot holds what is not the
tenant's own nor everybody's, it is told to read its prompt anew. The books are kept by salt: equal salts may see
each other's prompts.

What is known may be wrong for a moment: a request given up may have been on its way, and then be read after the
next one. Until then nobody's claim to the slot is believed. Once it has arrived, order is kept: llama.cpp lets the
requests for one slot wait in line, and reads one whose caller has left all the same.
"""

from __future__ import annotations

from msgspec import Struct

#: After so long a request that was sent has arrived.
SETTLE_S = 2.0
#: For so long a slot may still be reading the prompt of a caller that has left; others go elsewhere if they can.
SHY_S = 10.0
#: A slot that nobody wanted for so long may be warmed again.
STALE_S = 60.0

_MIXED = "\0"  # who was last in the slot is not known: nobody's salt


class _Slot(Struct, eq=False):
    number: int
    owner: str | None = None  # whose text it holds; None: nobody's, or what everybody may know
    opening: int = 0
    users: int = 0
    used: int = 0  # when it was last taken, as a count
    left_at: float = 0.0
    broken_at: float = float("-inf")
    broken_by: str = ""  # whose request may still come in

    def doubtful(self, at: float, salt: str) -> bool:
        """Whether a request of somebody else may still come in."""
        return at < self.broken_at + SETTLE_S and (self.broken_by == _MIXED or self.broken_by != salt)


class Seat:
    """A request's place. ``slot`` is -1 where the engine chooses; ``reuse`` is whether it may use what it knows.

    Of an engine without books only ``salt`` is of interest.
    """

    __slots__ = ("_book", "reuse", "salt", "slot")

    def __init__(self, salt: str, slot: int = -1, *, reuse: bool = False, book: _Book | None = None) -> None:
        self.salt = salt
        self.slot = slot
        self.reuse = reuse
        self._book = book

    def give_back(self, at: float, *, clean: bool, public: bool = False) -> None:
        """The request is over; more than once does no harm.

        ``at`` is a monotonic time in seconds. Not ``clean``: its connection was broken off, or it failed.
        ``public``: the slot holds now what everybody may know, and nothing else.
        """
        book, self._book = self._book, None
        if book is not None:
            book.left(self.slot, self.salt, at, clean=clean, public=public)


class _Book:
    """The slots of one replica in one of its lives."""

    __slots__ = ("_of", "_slots", "_taken")

    def __init__(self, slots: int) -> None:
        self._of: dict[tuple[str, int], _Slot] = {}  # of a conversation, the slot it had last
        self._slots = [_Slot(number) for number in range(slots)]
        self._taken = 0

    def take(self, salt: str, opening: int, at: float) -> Seat:
        slot = self._of.get((salt, opening))
        if slot is None or slot.users:
            slot = min(self._slots, key=lambda each: _rank(each, salt, opening, at))
        return self._sit(slot, salt, opening, at)

    def take_free(self, number: int, at: float) -> Seat | None:
        slot = self._slots[number] if number < len(self._slots) else None
        return None if slot is None or slot.users else self._sit(slot, _MIXED, 0, at)

    def stale(self, at: float) -> int | None:
        """The slot to warm again for newcomers: there is none for them, and nobody has wanted it for long."""
        owners = {slot.owner for slot in self._slots}
        if None in owners or len(owners) < 2:
            return None
        oldest = min(self._slots, key=lambda slot: (slot.users, slot.used))
        return oldest.number if not oldest.users and at >= oldest.left_at + STALE_S else None

    def _sit(self, slot: _Slot, salt: str, opening: int, at: float) -> Seat:
        doubtful = slot.doubtful(at, salt)
        reuse = not doubtful and (slot.owner == salt or (slot.owner is None and not slot.users))
        known = reuse or not (doubtful or slot.users)
        self._taken += 1
        self._name(slot, salt if known else _MIXED, opening)
        slot.users += 1
        slot.used = self._taken
        return Seat(salt, slot.number, reuse=reuse, book=self)

    def left(self, number: int, salt: str, at: float, *, clean: bool, public: bool) -> None:
        slot = self._slots[number]
        slot.users -= 1
        slot.left_at = at
        if not clean:
            slot.broken_by = _MIXED if slot.doubtful(at, salt) else salt
            slot.broken_at = at
        elif public and not slot.users and not slot.doubtful(at, salt):
            self._name(slot, None, 0)

    def _name(self, slot: _Slot, owner: str | None, opening: int) -> None:
        """Note whose the slot is, and forget whose it was."""
        before = (slot.owner or "", slot.opening)
        if self._of.get(before) is slot:
            del self._of[before]
        slot.owner, slot.opening = owner, opening
        if owner is not None and owner != _MIXED:
            self._of[owner, opening] = slot


def _rank(slot: _Slot, salt: str, opening: int, at: float) -> tuple[int, int, int]:
    """The lower, the better: the same conversation, an unwritten slot, the tenant's oldest, anybody's oldest.

    One that was broken off may still be at work; one that is taken comes last, as its next request waits inside
    the engine until it is free.
    """
    if slot.owner == salt and slot.opening == opening:
        return slot.users, 0, -slot.used
    kind = 1 if slot.owner is None else 2 if slot.owner == salt else 3
    return slot.users, kind + (3 if at < slot.broken_at + SHY_S else 0), slot.used


class Slots:
    """The books of all replicas, by name."""

    __slots__ = ("_books",)

    def __init__(self) -> None:
        self._books: dict[str, _Book] = {}

    def opened(self, replica: str, slots: int) -> None:
        """Begin a new book: the replica has started, and its slots are unwritten."""
        self._books[replica] = _Book(slots)

    def take(self, replica: str, salt: str, at: float, opening: int = 0) -> Seat:
        """Find a seat for a tenant's request; it must be given back.

        ``opening`` tells conversations of one tenant apart (``Adapter.opening``), so that each finds its slot.
        """
        book = self._books.get(replica)
        return Seat(salt) if book is None else book.take(salt, opening, at)

    def take_free(self, replica: str, number: int, at: float) -> Seat | None:
        """Take this slot, if nobody has it, for a request that belongs to no tenant."""
        book = self._books.get(replica)
        return None if book is None else book.take_free(number, at)

    def stale(self, replica: str, at: float) -> int | None:
        """The slot of a replica that is worth warming again, if one is.

        Where tenants share a replica, one slot is kept ready for who comes next: else everybody would read the
        common beginning anew in somebody else's slot. A tenant alone keeps all of them.
        """
        book = self._books.get(replica)
        return None if book is None else book.stale(at)
