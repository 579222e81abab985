"""Equations and catalogues: accelerators, models, step times. Figures are data, each with its source."""
