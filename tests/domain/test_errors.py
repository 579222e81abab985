"""One tree, drawn as it is, and one reason for each leaf."""

import re

import pytest

from underlay.domain import errors
from underlay.domain.errors import ERROR_OF_REASON, CallerError, EngineError, OurError, UnderlayError


def own(kind):
    """Rooms above may have errors that say more, by the same reason; they are no part of the tree."""
    return [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]


def below(kind):
    return [each for child in own(kind) for each in (child, *below(child))]


TREE = below(UnderlayError)
LEAVES = [kind for kind in TREE if not own(kind)]


def test_the_drawing_is_the_tree():
    drawn = re.findall(r"(?:├──|└──) (\w+) +(\d{3})", errors.__doc__)
    assert [(kind.__name__, str(kind.status)) for kind in LEAVES] == drawn
    branches = re.findall(r"^    (?:├──|└──) (\w+)", errors.__doc__, re.MULTILINE)
    assert branches == [kind.__name__ for kind in own(UnderlayError)]


def test_every_leaf_has_a_reason_of_its_own_by_which_it_is_found():
    """I28: the desk speaks in reasons, the driver raises the error that says it."""
    assert {kind.default_reason: kind for kind in LEAVES} == ERROR_OF_REASON
    assert len(ERROR_OF_REASON) == len(LEAVES)


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_whose_fault_it_is_shows_in_the_status(kind):
    fault = 4 if issubclass(kind, CallerError) else 5
    assert kind.status // 100 == fault
    assert issubclass(kind, (CallerError, OurError, EngineError))


def test_what_was_said_of_an_error_overrides_what_it_is_by_itself():
    plain = errors.Overloaded("full")
    assert (plain.reason, plain.retryable, plain.param, plain.retry_after_s) == ("overloaded", True, None, None)
    told = errors.Overloaded("full", reason="draining", param="model", retry_after_s=2.0, retryable=False)
    assert (told.reason, told.retryable, told.param, told.retry_after_s) == ("draining", False, "model", 2.0)
    assert str(told) == told.message == "full"
