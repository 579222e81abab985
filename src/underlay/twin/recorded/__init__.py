"""What-if: a recorded hour decided again, its replicas a fleet, its timings step times, its settings changed.

The callers of a journal are for ``crowd.journal``.
"""
