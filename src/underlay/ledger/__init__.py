"""What did each request take: joules, grams, millilitres and money, summing to what the meters said?

The files in the order that a window passes them: ``steps`` (what was computed for whom), ``step_energy`` and
``priors`` (what a step takes), ``attribution`` and ``policies`` (a device's window to accounts), ``device`` (window
after window), ``node`` (its host and what cools it), ``modelled`` (what no meter here sees), ``statements``
(windows to requests), ``footprint`` and ``costs``. Every term is a ``Figure`` (``domain.figures``) or becomes one.
Live and twin hand in the same records; only method and meter differ.
"""
