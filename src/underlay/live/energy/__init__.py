"""Whose joules were they? ``work`` counts, ``metered`` closes windows, ``accounting`` books; no request waits."""
