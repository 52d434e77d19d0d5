"""Installs the package trqam_jax; an editable install puts the whole checkout on the path."""

from setuptools import find_packages, setup

setup(
    name="trqam_jax",
    version="0.7.0",
    description="Fine-tuning pretrained flow policies with off-policy RL: TRQAM and its baselines in JAX",
    license="MIT",
    packages=find_packages(include=["trqam_jax", "trqam_jax.*"]),
    package_dir={"": "."},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "jax>=0.7",
        "flax>=0.11",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.20",
        "ml-collections>=1.0",
        "absl-py>=2.1",
        "numpy>=2.0",
        "jaxtyping>=0.3",
        "pandas>=3.1",
        "ogbench>=1.2.1",
        "gymnasium>=1.1",
        "pillow>=10",
        "matplotlib>=3.9",
        "tqdm>=4.66",
        "requests>=2.32",
        "huggingface_hub>=1.0",
        "safetensors>=0.5",
    ],
    extras_require={
        "cuda12": ["jax[cuda12]"],
        "cuda13": ["jax[cuda13]"],
        "tensorboard": ["tensorboardX>=2.6"],
        "wandb": ["wandb>=0.31"],
        "slurm": ["submitit>=1.5"],
        # For the tests of the report's page in a browser, which is the system's own.
        "browser": ["playwright>=1.40"],
        # For tests alone, beside requirements-robomimic.txt: several GB, of PyTorch. Its list lacks six.
        "robomimic": ["robomimic==0.3.0", "six>=1.16"],
        "dev": [
            "pytest>=9",
            "pytest-xdist>=3.6",
            "packaging>=24",
            "submitit>=1.5",
            "tensorboardX>=2.6",
            "chex>=0.1.89",
            "hypothesis>=6.130",
            "beartype>=0.20",
            "ruff>=0.12",
            "pyright[nodejs]>=1.1.400",
            "pandas-stubs>=2.2.3",
            "pre-commit>=4",
        ],
    },
)
