"""One run: its stages and phases, what it records, how it is resumed."""
