"""Environments and their data; knows no algorithm, and never imports JAX."""
