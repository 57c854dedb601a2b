"""How files come to the nodes of a cluster, and back: in a folder that all share, or through a storage."""

import contextlib
import re
import shutil
import socket
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import fsspec
from tqdm import tqdm

from stages.cli import InputError
from stages.shards import written_whole


@dataclass(frozen=True)
class SharedFolder:
    """The working folder, which the nodes see under the same name."""

    root: Path

    def bring(self, path: Path) -> None:
        """For the main process, before a call: let the nodes have a file that it reads."""

    def fetch(self, path: Path) -> None:
        """For a node: make the file one of the folder that it works in.  Raises InputError if it does not see it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (self.root / path).exists():
            raise InputError(
                f"node {socket.gethostname()} does not see {self.root / path}; let all nodes share the folder by this "
                "name, or set cluster.storage to a URL that all of them reach"
            )
        path.symlink_to(self.root / path)

    def publish(self, path: Path) -> None:
        """For a node: give a file that it wrote, whole."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
        shutil.copyfile(path, temporary)
        temporary.replace(target)

    def take(self, path: Path) -> None:
        """For the main process, after a call: have a file that it wrote.  Raises InputError if it did not come here."""
        if not path.exists():
            raise InputError(
                f"a node wrote {path} to a folder that is not this one ({self.root}); let all nodes share it by this "
                "name, or set cluster.storage to a URL that all of them reach"
            )
        for partial in path.parent.glob(f".{path.name}.*.partial"):  # of a process that was lost meanwhile
            partial.unlink(missing_ok=True)

    def forget(self, path: Path) -> None:
        """For the main process: no call needs what was brought or published of the file."""


@dataclass(frozen=True)
class Storage:
    """A folder of a file system that fsspec knows, such as a bucket.

    Whatever the file system raises becomes an InputError: each of fsspec's many has errors of its own.
    """

    url: str

    @classmethod
    @contextlib.contextmanager
    def opened(cls, url: str) -> Iterator["Storage"]:
        """A folder for one run in the storage; after it nothing is left there, nor of a run that was killed here."""
        # Other projects' files have the same names, and so have those of a killed run, which a node may still write.
        here = sha256(f"{socket.gethostname()}:{Path.cwd()}".encode()).hexdigest()[:16]
        runs = cls(f"{url.rstrip('/')}/varioclip-{here}")
        runs._remove()
        try:
            yield cls(f"{runs.url}/{uuid.uuid4().hex}")
        finally:
            try:
                runs._remove()
            except InputError as error:  # what went wrong in the run itself is not to be hidden by this
                tqdm.write(f"files are left in cluster.storage: {error}", file=sys.stderr)

    def bring(self, path: Path) -> None:
        """As SharedFolder.bring."""
        self._put(path)

    def fetch(self, path: Path) -> None:
        """As SharedFolder.fetch."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._get(path, to=path)

    def publish(self, path: Path) -> None:
        """As SharedFolder.publish."""
        self._put(path)

    def take(self, path: Path) -> None:
        """As SharedFolder.take."""
        with written_whole(path) as temporary:
            self._get(path, to=temporary)
        self.forget(path)

    def forget(self, path: Path) -> None:
        """As SharedFolder.forget."""
        with self._opened() as (files, root):
            files.rm_file(f"{root}/{path}")

    def _put(self, path: Path) -> None:
        with self._opened() as (files, root):
            files.makedirs(f"{root}/{path.parent}", exist_ok=True)
            files.put_file(str(path), f"{root}/{path}")

    def _get(self, path: Path, to: Path) -> None:
        with self._opened() as (files, root):
            files.get_file(f"{root}/{path}", str(to))

    def _remove(self) -> None:
        with self._opened() as (files, root):
            if files.exists(root):
                files.rm(root, recursive=True)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
        """The file system and the folder's path in it."""
        try:
            yield fsspec.url_to_fs(self.url)
        except Exception as error:
            message = (
                f"cluster.storage {self.url} fails on {socket.gethostname()} ({type(error).__name__}: {error}); check "
                "the URL, the network, the rights, and that the package which fsspec needs for it is installed there"
            )
            raise InputError(re.sub(r"://[^/@\s]*@", "://", message)) from None  # without a name and password in a URL
