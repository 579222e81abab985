"""Engines as models: the rules of the real ones, but steps in which nothing changes are reckoned, not walked."""

from .engine import ModelledEngine
from .request import Request
from .rules import PagedRules, SlotRules
from .shares import ShareWeights

__all__ = ["ModelledEngine", "PagedRules", "Request", "ShareWeights", "SlotRules"]
