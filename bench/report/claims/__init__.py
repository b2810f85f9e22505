"""The paper's headline claims, re-derived from its own tables."""
