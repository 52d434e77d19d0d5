"""One process at a time in a folder."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

from experiments.training import interrupt
from trqam_jax import files
from trqam_jax.errors import UserError

NAME = "lock"


_checks: dict[pathlib.Path, Callable[[], None]] = {}


@contextlib.contextmanager
def hold(folder: pathlib.Path, *, wait: bool) -> Iterator[None]:
    """The folder, made if it is not there, for this process alone. If another one has it: wait for that, or a
    UserError that says who. A signal ends the wait at once."""

    def busy(owner: str) -> contextlib.AbstractContextManager[None]:
        if not wait:
            raise UserError(f"{folder}: is being written by {owner}; wait until it ends, or choose another --group")
        print(f"waiting for {owner}, which writes {folder}", flush=True)
        return interrupt.at_once()

    with files.lock(folder / NAME, busy) as check:
        _checks[folder] = check
        try:
            yield
        finally:
            if _checks.get(folder) is check:  # another's, where this folder was moved and one made in its place
                del _checks[folder]


def check(folder: pathlib.Path) -> None:
    """UserError if another process writes a folder that is held here, as where locks are not passed on."""
    if folder in _checks:
        _checks[folder]()
