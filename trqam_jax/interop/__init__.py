"""Files that other projects' code wrote."""
