"""Where algorithms and environments meet: the commands."""
