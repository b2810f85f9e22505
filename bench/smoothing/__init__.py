"""The only place that makes smoothing noise and counts votes."""
