"""Equations and catalogues: step times, watts, links, tariffs. Empty until the twin needs it."""
