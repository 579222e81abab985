"""Every decision, pure, in the order a prompt meets them.

``identity`` who is asking · ``admission`` let in, or refuse with a time · ``routing`` which replica · ``delivery``
what the caller has got · ``recovery`` what breaks and what takes over · ``metering`` what it cost. ``desk``
is their one door, ``events`` and ``effects`` its words, ``lifecycles`` its grammar, ``journal`` its diary.
"""
