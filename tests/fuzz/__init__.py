"""A seeded fuzzer of the command line and of all files that it reads; `python -m tests.fuzz --help`."""
