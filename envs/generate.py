"""python -m envs.generate: see envs/ogbench/generate.py."""

from envs.ogbench.generate import main

if __name__ == "__main__":
    main()
