"""The public conformance kit: `check_method` for methods, closed-form fakes for certifiers."""

from bench.testing.conformance import Finding, check_method
from bench.testing.fakes import Constant, HalfSpace, RandomClassifier, ToyImages

__all__ = ["Constant", "Finding", "HalfSpace", "RandomClassifier", "ToyImages", "check_method"]
