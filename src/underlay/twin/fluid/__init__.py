"""The twin as flows, for worlds too large to follow every request: a day of 100,000 accelerators in a minute.

The world is that of the request level, replica by replica; only who serves calls is a flow. How a pool of
replicas behaves at any load is measured first, at request level, with the desk itself (``station``,
``surface``); then flows go through the day by what was measured (``pools``, ``flows``); at the end requests are
drawn that stand for many (``drawing``, ``tails``), so that percentiles mean what they mean elsewhere. When a
pool leaves what was measured, that is said (``doubts``).
"""

from .result import run

__all__ = ["run"]
