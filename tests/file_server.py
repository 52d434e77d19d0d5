"""Servers of files on this machine: a plain one that resumes, and truncates, stalls, refuses or lies where it is told
to, and one that answers as the Hugging Face Hub does.
"""

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator

COMMIT = "c" * 40


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, {path: bytes}, with ranges. Each GET takes the next of `faults`: None, a word or a status."""

    daemon_threads, block_on_close = True, False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.requests = {}, [], []  # requests: [path, Range, bytes of body sent]
        self.asked = []  # paths of HEAD requests
        self.connections = 0
        self.validators, self.gate = True, threading.Event()
        self.redirects = {}  # {path: URL or path}, answered with 307 and an ETag of its own
        self.headers = {}  # {path: of the redirect, or of the file}
        self.stuck = ()  # paths of which half is sent, and the rest when the gate opens
        self.head_status = 200  # of HEAD requests for what is there
        self.retry_after = None  # seconds, with statuses
        self.tokens = []  # what came as Authorization
        self.url = f"http://127.0.0.1:{self.server_port}"

    def process_request(self, *arguments):
        self.connections += 1
        super().process_request(*arguments)

    def handle_error(self, *_):  # a client that went away
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def _headers(self, path):
        for name, value in self.server.headers.get(path, {}).items():
            self.send_header(name, value)

    def _refuse(self, status):
        self.send_response(status)
        if self.server.retry_after is not None:
            self.send_header("Retry-After", str(self.server.retry_after))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _redirect(self):
        self.send_response(307)
        self.send_header("Location", self.server.redirects[self.path])
        self.send_header("ETag", '"of the redirect"')
        self.send_header("Content-Length", "0")
        self._headers(self.path)
        self.end_headers()

    def do_HEAD(self):
        server = self.server
        server.asked.append(self.path)
        server.tokens.append(self.headers["Authorization"])
        if self.path in server.redirects:
            return self._redirect()
        body = server.files.get(self.path)
        if body is None or server.head_status != 200:
            return self._refuse(404 if body is None else server.head_status)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self._headers(self.path)
        self.end_headers()

    def do_GET(self):
        server = self.server
        fault = server.faults.pop(0) if server.faults else None
        body, wanted = server.files.get(self.path), self.headers["Range"]
        request = [self.path, wanted, 0]
        server.requests.append(request)
        server.tokens.append(self.headers["Authorization"])
        if fault == "hold":
            server.gate.wait(10)
        if self.path in server.redirects:
            return self._redirect()
        if body is None or isinstance(fault, int):
            return self._refuse(fault or 404)
        etag, total, begin = f'"{hashlib.md5(body).hexdigest()}"', len(body), 0
        same = self.headers["If-Range"] == etag or fault == "ignores If-Range"
        if wanted and same and fault != "no ranges":
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if begin >= total:
            return self._refuse(416)
        self.send_response(206 if begin else 200)
        if begin:
            shift = fault == "wrong range"
            self.send_header("Content-Range", f"bytes {begin + shift}-{total - 1}/{total}")
        if server.validators:
            self.send_header("ETag", etag)
        if fault != "no length":
            self.send_header("Content-Length", str(total - begin))
        self._headers(self.path)
        self.end_headers()
        rest = body[begin:]
        half = len(rest) // 2 if fault in ("truncate", "stall") or self.path in server.stuck else len(rest)
        self.wfile.write(rest[:half])
        request[2] = half
        if fault == "stall" or self.path in server.stuck:
            server.gate.wait(10)


def hub(start: Callable[..., Server], repositories: dict[str, dict[str, bytes]]) -> Server:
    """A server that answers as the Hub does: {"OWNER/REPO": {path: content}}, of datasets.

    What is asked of it is sent on, with digest and size, to where the bytes lie: a second server, its `storage`.
    """
    server, server.storage = (front := start({})), (back := start({}))
    for name, files in repositories.items():
        for path, content in files.items():
            digest, address = hashlib.sha256(content).hexdigest(), f"/datasets/{name}/resolve/main/{path}"
            blob = f"/blobs/{digest}"
            back.files[blob] = content
            front.redirects[address] = back.url + blob
            front.headers[address] = {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{digest}"',
            }
        info = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}
        front.files[f"/api/datasets/{name}"] = json.dumps(info).encode()
    return server


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
