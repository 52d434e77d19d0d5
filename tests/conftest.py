"""Compile quickly: the tests compile much and compute little."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
