"""From rows to tables and figures: pure functions of votes, then the formats they are written in."""
