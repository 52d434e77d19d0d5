"""A server of files on this machine that resumes, and truncates, stalls, refuses or lies where it is told to."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, {path: bytes}, with ranges. Each request takes the next of `faults`: None, a word or a status."""

    daemon_threads, block_on_close = True, False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.requests = {}, [], []  # requests: [path, Range, bytes of body sent]
        self.validators, self.gate = True, threading.Event()
        self.redirects = {}  # {path: URL or path}, answered with 307 and an ETag of its own
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):  # a client that went away
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        fault = server.faults.pop(0) if server.faults else None
        body, wanted = server.files.get(self.path), self.headers["Range"]
        request = [self.path, wanted, 0]
        server.requests.append(request)
        if fault == "hold":
            server.gate.wait(10)
        if self.path in server.redirects:
            self.send_response(307)
            self.send_header("Location", server.redirects[self.path])
            self.send_header("ETag", '"of the redirect"')
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if body is None or isinstance(fault, int):
            return self.send_error(fault or 404)
        etag, total, begin = f'"{hashlib.md5(body).hexdigest()}"', len(body), 0
        same = self.headers["If-Range"] == etag or fault == "ignores If-Range"
        if wanted and same and fault != "no ranges":
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if begin >= total:
            return self.send_error(416)
        self.send_response(206 if begin else 200)
        if begin:
            shift = fault == "wrong range"
            self.send_header("Content-Range", f"bytes {begin + shift}-{total - 1}/{total}")
        if server.validators:
            self.send_header("ETag", etag)
        if fault != "no length":
            self.send_header("Content-Length", str(total - begin))
        self.end_headers()
        rest = body[begin:]
        if fault in ("truncate", "stall"):
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)
        request[2] = len(rest)
        if fault == "stall":
            server.gate.wait(10)


@contextlib.contextmanager
def servers() -> Iterator[Callable[..., Server]]:
    """A function that starts a server of {path: bytes}; all end with the context."""
    with contextlib.ExitStack() as stack:

        def start(files, faults=()):
            server = Server()
            server.files, server.faults = dict(files), list(faults)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            for end in (server.server_close, server.shutdown, server.gate.set):
                stack.callback(end)
            return server

        yield start
