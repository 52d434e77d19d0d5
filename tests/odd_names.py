"""Names that a folder can have and that one library or another takes for something else."""

#: A pattern, a placeholder, a URL, a home, an option, two lines, and bytes that are no text, among others.
NAMES = (
    "lr[3e-4]",
    "[!a]",
    "{a,b}",
    "a*b?",
    "100%s %20",
    "two words ",
    "±é漢",
    "-dash",
    "~home",
    "$HOME",
    "new\nline\tand tab",
    "back\\slash",
    "'single' \"double\"",
    "gs:",
    "a;b&c|d#e",
    ".hidden",
    "...",
    b"\xff\xfe".decode(errors="surrogateescape"),
    "n" * 255,
    "é" * 127,
)

#: Much of it in one.
WORST = "-[3e-4] {a,b} * ? 100%s ±\n#' \"gs:"
