"""OGBench: its domains, files and simulators."""
