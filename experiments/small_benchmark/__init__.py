"""The small benchmark: every method tuned with the same effort on two cores, then compared on fresh seeds."""
