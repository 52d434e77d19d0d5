"""A hub on this machine, as far as huggingface_hub's client asks: model repositories, commits, files, uploads."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator


class Hub(http.server.ThreadingHTTPServer):
    """repositories: {owner/name: [(commit, {path: bytes})]}, the newest last. requests: [method path], of those."""

    daemon_threads, block_on_close = True, False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.requests, self.uploads, self.statuses = {}, [], {}, {}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):  # a client that went away
        pass

    def commit(self, repository, files):
        """A new commit that holds these files alone. Returns its hash."""
        commits = self.repositories.setdefault(repository, [])
        parts = [repository.encode(), str(len(commits)).encode(), *(p.encode() + f for p, f in sorted(files.items()))]
        commits.append((hashlib.sha1(b"".join(parts)).hexdigest(), dict(files)))
        return commits[-1][0]

    def at(self, repository, revision):
        """(commit, files) of a revision; None if there is none."""
        commits = self.repositories[repository]
        if revision == "main":
            return commits[-1] if commits else ("0" * 40, {})
        return next((one for one in commits if one[0] == revision), None)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self, status, body=b"", *, head=False, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def _json(self, content, status=200, **headers):
        self._answer(status, json.dumps(content).encode(), Content_Type="application/json", **headers)

    def _missing(self, code):
        self._answer(404, b"", X_Error_Code=code, X_Error_Message=code)

    def _start(self):
        if self.path != "/api/agent-harnesses":  # asked once a process, about no repository
            self.server.requests.append(f"{self.command} {self.path}")
        length = int(self.headers["Content-Length"] or 0)
        self.body = self.rfile.read(length) if length else b""
        if "chunked" in (self.headers["Transfer-Encoding"] or ""):
            self.body = self._chunks()
        return urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)

    def _chunks(self):
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _repository(self, path):
        """The repository in the path, and whether to go on; an answer is sent if there is none, or a fault was set."""
        match = re.match(r"/(?:api/models/)?([\w.-]+/[\w.-]+?)(?:\.git)?(?:/|$)", path)
        name = match[1] if match else ""
        status, headers = self.server.statuses.get(name, (0, {}))
        if status:
            self._answer(status, **headers)
        elif name not in self.server.repositories:
            self._missing("RepoNotFound")
        return name, not status and name in self.server.repositories

    def do_HEAD(self):
        self._file(self._start(), head=True)

    def do_GET(self):
        path = self._start()
        if not path.startswith("/api/models/"):
            return self._file(path)
        name, found = self._repository(path)
        if not found:
            return None
        rest = path.removeprefix(f"/api/models/{name}").strip("/")
        kind, _, revision = rest.partition("/")
        at = self.server.at(name, revision or "main")
        if at is None:
            return self._missing("RevisionNotFound")
        commit, files = at
        if kind == "tree":
            entries = [{"type": "file", "path": p, "size": len(f), "oid": sha1(f)} for p, f in files.items()]
            return self._json(entries)
        siblings = [{"rfilename": file} for file in files]
        return self._json({"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []})

    def _file(self, path, head=False):
        name, found = self._repository(path)
        if not found:
            return None
        revision, _, file = path.removeprefix(f"/{name}/resolve/").partition("/")
        at = self.server.at(name, revision)
        if at is None:
            return self._missing("RevisionNotFound")
        commit, files = at
        if file not in files:
            return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        body = files[file]
        return self._answer(200, body, head=head, X_Repo_Commit=commit, ETag=f'"{sha1(body)}"')

    def do_PUT(self):
        path = self._start()
        self.server.uploads[path.removeprefix("/uploads/")] = self.body
        self._answer(200, ETag='"uploaded"')

    def do_POST(self):
        path = self._start()
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(self.body))
        name, found = self._repository(path)
        if not found:
            return None
        if path.endswith("/objects/batch"):
            return self._batch(json.loads(self.body))
        if "/preupload/" in path:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(self.body)["files"]
            ]
            return self._json({"files": files})
        if "/commit/" in path:
            return self._commit(name)
        return self._missing("EntryNotFound")

    def _create(self, content):
        if not self.headers["Authorization"]:
            return self._answer(401)
        name = f"{content['organization']}/{content['name']}"
        status = 409 if name in self.server.repositories else 200
        self.server.repositories.setdefault(name, [])
        return self._json({"url": f"{self.server.url}/{name}", "id": name, "name": name}, status)

    def _batch(self, content):
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/uploads/{one['oid']}", "header": {}}}}
            for one in content["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name):
        files = dict(self.server.at(name, "main")[1])
        for line in self.body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if entry["key"] == "lfsFile":
                files[value["path"]] = self.server.uploads[value["oid"]]
        commit = self.server.commit(name, files)
        url = f"{self.server.url}/{name}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url, "commitMessage": "", "hookOutput": ""})


def sha1(data):
    return hashlib.sha1(data).hexdigest()


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """A hub that ends with the context."""
    server = Hub()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def use(monkeypatch, server, folder, *, offline=False):
    """Let huggingface_hub, in this process, ask `server` and keep its cache in `folder`."""
    from huggingface_hub import constants

    url = server if isinstance(server, str) else server.url
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_test")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "xdg"))


def environment(server, folder):
    """For another process, the same."""
    return {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(folder / "hf-home"),
        "HF_TOKEN": "hf_of_this_test",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "XDG_CACHE_HOME": str(folder / "xdg"),
    }
