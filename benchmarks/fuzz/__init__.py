"""Bad input of every kind, by hypothesis: each case ends in one clear line or in the right result.

    python -m benchmarks.fuzz --minutes=30 --seed=0

tests/fuzz/ plays a few fixed cases of each kind.
"""

from benchmarks.fuzz.judge import Kind


def every_kind() -> dict[str, Kind]:
    """All kinds by name."""
    from benchmarks.fuzz import checkpoints, commands, data_files, pickles, policies, tables

    return {
        **pickles.KINDS,
        **data_files.kinds(simulate=True),
        **tables.KINDS,
        **checkpoints.KINDS,
        **policies.KINDS,
        **commands.kinds(),
    }
