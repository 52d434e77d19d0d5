"""python -m envs.download: see envs/ogbench/download.py."""

from envs.ogbench.download import main

if __name__ == "__main__":
    main()
