"""A live journal as a crowd: its calls at their times, and all else that one reading of it tells.

Journals hold decisions and counts, no words. What they do not say is not made up: where something had to be taken
as usual (the answer of a call that was refused, say), whoever reads results is told how often.
"""
