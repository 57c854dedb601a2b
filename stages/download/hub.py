"""OSV5M, or a data set in its layout, from the Hugging Face hub."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # of the HTTP client, which is another one in huggingface_hub 1.x than in 2.x
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import DatasetInfo
from huggingface_hub.utils import build_hf_headers

from stages.cli import InputError
from stages.download.manifest import MANIFEST, revision_in
from stages.download.transfer import RemoteFile, fetch_files, patiently, refuse_full_disk
from stages.params import Hub
from stages.shards import write_json

CSVS = ["train.csv", "test.csv"]


def fetch_hub(params: Hub, folder: Path) -> tuple[list[str], str]:
    """Fetch the CSVs and archives that params name and folder lacks. Returns the paths of all, and the commit.

    A branch or tag is resolved to its commit once, on the first download into folder.
    Raises InputError if the hub, the repository, its revision or a file can't be had, or the disk is too small.
    """
    commit = revision_in(folder)
    archives = {"train": params.train_archives, "test": params.test_archives}
    if commit and "all" not in archives.values():
        paths = CSVS + [path for split, numbers in archives.items() for path in archive_paths(split, numbers)]
        if all((folder / path).exists() for path in paths):
            return paths, commit
    api = HfApi()
    with _explained(params, api.endpoint):
        info = patiently(
            lambda: api.dataset_info(params.repository, revision=commit or params.revision, files_metadata=True),
            HfHubHTTPError,  # and not for a hub that can't be reached: better told at once
            threading.Event(),
        )
        if not commit:
            # Kept before the first file comes: a run that is killed must go on with the same commit.
            write_json(folder / MANIFEST, {"source": "hub", "revision": info.sha, "files": []})
        wanted = _wanted(info, params, archives, api.endpoint)
        missing = [file for file in wanted if not (folder / file.path).exists()]
        refuse_full_disk(((file.path, file.size) for file in missing), folder, "data.hub.train_archives")
        fetch_files(missing, folder, build_hf_headers())
    return [file.path for file in wanted], info.sha


def archive_paths(split: str, numbers: list[int]) -> list[str]:
    """Paths of a split's archives by their numbers."""
    return [f"images/{split}/{number:02d}.zip" for number in sorted(set(numbers))]


def _wanted(info: DatasetInfo, params: Hub, archives: dict[str, list[int] | str], endpoint: str) -> list[RemoteFile]:
    """Files of the repository that params name."""
    files = {file.rfilename: file for file in info.siblings}
    paths = list(CSVS)
    for split, numbers in archives.items():
        there = sorted(path for path in files if re.fullmatch(rf"images/{split}/\d+\.zip", path))
        named = there if numbers == "all" else archive_paths(split, numbers)
        if absent := [path for path in named if path not in files]:
            numbers_there = ", ".join(str(int(Path(path).stem)) for path in there) or "none"
            raise InputError(
                f"{params.repository} at {params.revision} has no {', '.join(absent)}; "
                f"set data.hub.{split}_archives to some of: {numbers_there}"
            )
        paths += named
    if absent := [path for path in CSVS if path not in files]:
        raise InputError(
            f"{params.repository} at {params.revision} has no {', '.join(absent)}; "
            "data.hub.repository must be a data set in OSV5M's layout"
        )
    return [
        RemoteFile(
            path,
            hf_hub_url(params.repository, path, repo_type="dataset", revision=info.sha, endpoint=endpoint),
            files[path].size,
            files[path].lfs.sha256 if files[path].lfs else None,
        )
        for path in paths
    ]


@contextmanager
def _explained(params: Hub, endpoint: str) -> Iterator[None]:
    """Turn what can go wrong with the hub into an InputError that says what to do."""
    page = f"{endpoint}/datasets/{params.repository}"
    otherwise = "fetch the files on another machine and set data.source to mirror"
    try:
        yield
    except GatedRepoError:
        message = f"{params.repository} is gated; accept its terms at {page}, then log in: hf auth login"
    except RepositoryNotFoundError:
        message = (
            f"data.hub.repository '{params.repository}' is not on {endpoint}, or is not yours to read; "
            "check its name, and for a private one log in: hf auth login"
        )
    except RevisionNotFoundError:
        message = (
            f"data.hub.revision '{params.revision}' is no branch, tag or commit of {params.repository}; "
            f"see {page}/commits/main"
        )
    except OfflineModeIsEnabled:
        message = f"HF_HUB_OFFLINE is set, so {page} can't be read; unset it, or {otherwise}"
    except HfHubHTTPError as error:
        message = f"{page} answered {error.response.status_code}; try again later, or check your token: hf auth whoami"
    except HTTPError as error:
        message = f"{endpoint} can't be reached ({error}); try again with a network, or {otherwise}"
    else:
        return
    raise InputError(message)
