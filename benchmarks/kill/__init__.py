"""A campaign of disturbances: python -m benchmarks.kill."""
