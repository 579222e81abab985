"""The nouns of Underlay. Everything else speaks in these words; they know nobody."""
