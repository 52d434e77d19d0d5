"""python -m envs.convert: the suite's of --env; add --help for what it takes."""

from envs.commands import hand_over

if __name__ == "__main__":
    hand_over("convert")
