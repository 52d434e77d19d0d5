"""Flow policies, memoryless SDEs, adjoint matching and trust regions in JAX; knows no algorithm and no environment."""

__version__ = "0.7.0"
