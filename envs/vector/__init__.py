"""Simulators in worker processes."""
