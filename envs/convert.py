"""python -m envs.convert: see envs/ogbench/convert.py."""

from envs.ogbench.convert import main

if __name__ == "__main__":
    main()
