"""Numbers of others, each with its source: the papers' tables as TOML, and certification logs of their programs."""
