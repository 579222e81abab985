"""Whose joules were they, and what did they make? No request waits for any of it.

``work`` counts what was computed, ``metered`` closes windows, ``accounting`` books them; ``site`` has the rates of
this place, ``bills`` what windows cost, ``told`` the last word on a request, ``outlook`` what is known before that,
``totals`` all sums, for Prometheus and for the store.
"""
