"""Figures: one a module, drawn from rows and records."""
