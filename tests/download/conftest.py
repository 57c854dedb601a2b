"""A small source in OSV5M's layout, and a small server that speaks the part of the hub's language that is needed."""

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "train.csv": b"id,latitude,longitude\n1,2.0,3.0\n",
    "test.csv": b"id,latitude,longitude\n4,5.0,6.0\n",
    "images/train/00.zip": b"first training archive",
    "images/train/01.zip": b"second training archive",
    "images/train/02.zip": bytes(range(256)) * 4000,
    "images/test/00.zip": b"test archive",
    "README.md": b"not asked for",
}


@pytest.fixture
def mirror(tmp_path):
    """A folder in OSV5M's layout."""
    folder = tmp_path / "mirror"
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.fixture
def source_files():
    """Contents of the source by path."""
    return dict(FILES)


@pytest.fixture
def contents():
    """Contents of all files below a folder by path."""
    return _contents


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass
class FakeHub:
    """What the server holds, how it fails, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    promised: dict[str, bytes] = field(default_factory=dict)  # contents that metadata speaks of, where they differ
    head: str = COMMIT  # the commit that branch main means
    status: dict[str, tuple[int, str]] = field(default_factory=dict)  # repository: (HTTP status, the hub's error code)
    failures: list[tuple[int, dict]] = field(default_factory=list)  # the next answers: HTTP status, headers
    cuts: list[int] = field(default_factory=list)  # bytes after which the next connections for a file break
    knows_ranges: bool = True
    pause_s: float = 0  # before each of a file's 64 kB
    downloads: list[str] = field(default_factory=list)
    ranges: list[tuple[str, int]] = field(default_factory=list)  # (file, first byte asked for)
    tokens: dict[str, set] = field(default_factory=lambda: {"hub": set(), "storage": set()})
    n_at_once: int = 0
    most_at_once: int = 0
    url: str = ""


def handler_of(hub: FakeHub):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def answer(self, status, body=b"", **headers):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self):
            path = self.path.split("?")[0]
            if path.startswith("/storage/"):
                return self.stored(path.removeprefix("/storage/"))
            hub.tokens["hub"].add(self.headers["Authorization"])
            repository = "/".join(path.removeprefix("/api").split("/")[2:4])
            if repository in hub.status or repository != "some/photos":
                status, code = hub.status.get(repository, (404, "RepoNotFound"))
                return self.answer(status, X_Error_Code=code, X_Error_Message=code)
            if hub.failures:
                status, headers = hub.failures.pop(0)
                return self.answer(status, **headers)
            if path.startswith("/api/"):
                return self.info(path.rsplit("/", 1)[-1])
            return self.file(path.split(f"/resolve/{COMMIT}/")[-1])

        do_HEAD = do_GET

        def info(self, revision):
            if revision not in ("main", COMMIT):
                return self.answer(404, X_Error_Code="RevisionNotFound", X_Error_Message="no such revision")
            siblings = []
            for name, content in {**hub.files, **hub.promised}.items():
                sha256 = hashlib.sha256(content).hexdigest()
                lfs = {"sha256": sha256, "size": len(content), "pointerSize": 130}
                siblings.append({"rfilename": name, "size": len(content), "blobId": sha256[:40], "lfs": lfs})
            commit = hub.head if revision == "main" else revision
            body = {
                "id": "some/photos",
                "sha": commit,
                "private": False,
                "siblings": siblings,
                "tags": [],
                "downloads": 0,
            }
            return self.answer(200, json.dumps(body).encode(), Content_Type="application/json")

        def file(self, name):
            """Large files lie on a storage server, where the hub's token must not go."""
            if name not in hub.files:
                return self.answer(404, X_Error_Code="EntryNotFound", X_Error_Message="no such file")
            content = hub.files[name]
            headers = {"X_Repo_Commit": COMMIT, "X_Linked_Size": str(len(content))}
            headers["X_Linked_Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            storage = hub.url.replace("127.0.0.1", "localhost")
            return self.answer(302, Location=f"{storage}/storage/{name}?signature=1", **headers)

        def stored(self, name):
            content = hub.files[name]
            hub.tokens["storage"].add(self.headers["Authorization"])
            start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").split("-")[0])
            hub.downloads.append(name)
            hub.ranges.append((name, start))
            if hub.knows_ranges and start and start >= len(content):
                return self.answer(416)
            body, status = (content[start:], 206) if hub.knows_ranges else (content, 200)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.end_headers()
            hub.n_at_once += 1
            hub.most_at_once = max(hub.most_at_once, hub.n_at_once)
            self.send_slowly(body[: hub.cuts.pop(0)] if hub.cuts else body)
            hub.n_at_once -= 1
            return None

        def send_slowly(self, body):
            for start in range(0, len(body), 1 << 16):
                time.sleep(hub.pause_s)
                try:
                    self.wfile.write(body[start : start + (1 << 16)])
                except OSError:  # the client was killed
                    return

    return Handler


@contextmanager
def served(hub: FakeHub):
    """Serve the hub at hub.url while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    with served(FakeHub()) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = "/{repo_id}/resolve/{revision}/{filename}"  # made from ENDPOINT on import
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub
