"""Every decision, pure, in the order a prompt meets them.

``desk`` is the one door, ``events`` and ``effects`` are its words, ``lifecycles`` its grammar, ``journal`` its
diary, ``agenda`` and ``dice`` its clock and its chance.

- Who asks, and what may they use? ``identity`` · ``admission`` · ``idempotency`` · ``accounts`` with ``limits``
  and ``budgets``, of which a request takes its ``holding``; ``caller_desk`` asks them.
- Whose turn is it, and who is not let in? ``waiting`` · ``fairness`` · ``overload``; ``model_desk`` asks them for
  each ``ticket``.
- Which replica? ``routing``, by what ``fleet`` and ``prefixes`` know of it and ``fading`` lines have learnt;
  ``concurrency`` says how much it bears, ``hedging`` when a second one is asked.
- What breaks, and what takes over? ``recovery``; ``replica_desk`` tells it of each replica. ``delivery`` knows what
  the caller has got.
- What did it cost? ``metering``.
"""
