"""Certification logs as other people's programs print them: read, audited, imported; their numbers are not measured."""
