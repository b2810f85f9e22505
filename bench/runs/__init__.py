"""A run: what was asked for, found and checked; its images drawn on some executor; its rows stored."""
