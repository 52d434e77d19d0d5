"""A server of two files for the download, slow enough to be disturbed, in a process of its own."""

import io
import os
import pathlib
import time

import numpy as np

SIZE, BLOCK, PAUSE = 1_500_000, 32_768, 0.03  # bytes, bytes at a time, seconds between


def make_files() -> dict[str, bytes]:
    """What OGBench's server has of cube-single, but small: intact npz files, always the same."""
    draw = np.random.default_rng(0)
    files = {}
    for name, size in (("cube-single-play-v0.npz", SIZE), ("cube-single-play-v0-val.npz", SIZE // 10)):
        file = io.BytesIO()
        np.savez(file, observations=draw.integers(0, 256, size, np.uint8))
        files[f"/{name}"] = file.getvalue()
    return files


def serve(place: pathlib.Path) -> None:
    """Write the URL to `place`, and serve until this process ends or has lost its parent."""
    from tests import file_server

    class Slow(file_server.Handler):
        def do_GET(self):
            setattr(self, "wfile", _Slow(self.wfile))  # noqa: B010
            super().do_GET()

    server, parent = file_server.Server(), os.getppid()
    server.RequestHandlerClass = Slow
    server.files, server.timeout = make_files(), 1.0
    place.write_text(server.url)
    while os.getppid() == parent:
        server.handle_request()
        del server.requests[:-8], server.tokens[:-8], server.asked[:-8]


class _Slow:
    """A file that is written a block at a time."""

    def __init__(self, file: io.BufferedIOBase):
        self._file = file

    def write(self, data: bytes) -> int:
        for start in range(0, len(data), BLOCK):
            self._file.write(data[start : start + BLOCK])
            time.sleep(PAUSE if len(data) > BLOCK else 0)
        return len(data)

    def __getattr__(self, name: str):
        return getattr(self._file, name)
