"""Hosts for worker processes: what can be asked, and what can go wrong."""

import os
import time


class Reporter:
    """Answers truthfully."""

    def pid(self):
        return os.getpid()

    def echo(self, value):
        return value

    def sleep(self, seconds):
        time.sleep(seconds)

    def fail(self, error):
        raise error

    def fail_obscurely(self):
        raise Obscure(1, 2)

    def close(self):
        pass


class Broken:
    """Cannot be made."""

    def __init__(self):
        raise ValueError("no such simulator")


class Obscure(Exception):
    """Is pickled, and then cannot be read."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
