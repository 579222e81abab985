"""Which replica, and why?

Decided from the desk's own leases, the measured pace of each replica and what its cache probably holds. One file
per policy; ``POLICIES`` maps the setting to it. Routing refuses to know who asks and what it costs.
"""

from underlay.control.routing.consistent_hash import ConsistentHash
from underlay.control.routing.least_requests import LeastRequests
from underlay.control.routing.lmetric import LMetric
from underlay.control.routing.policy import Ask, Choice, Policy
from underlay.control.routing.prefix import Prefix
from underlay.control.routing.prequal import Prequal
from underlay.control.routing.random_choice import RandomChoice
from underlay.control.routing.round_robin import RoundRobin
from underlay.control.routing.session import Session
from underlay.control.routing.sticky import Sticky
from underlay.control.routing.two_choices import TwoChoices

POLICIES: dict[str, type[Policy]] = {
    "round_robin": RoundRobin,
    "random": RandomChoice,
    "least_requests": LeastRequests,
    "two_choices": TwoChoices,
    "prequal": Prequal,
    "consistent_hash": ConsistentHash,
    "session": Session,
    "prefix": Prefix,
    "lmetric": LMetric,
    "sticky": Sticky,
}

__all__ = ["POLICIES", "Ask", "Choice", "Policy"]
