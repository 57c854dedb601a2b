"""To join a Ray cluster, or to say within seconds why not."""

import contextlib
import importlib.metadata
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from stages.cli import InputError

INSTALL = "pip install -c .constraints.txt -e '.[cluster]'"
START = "start the cluster, as with `ray start --head`, or set cluster.address to null"
TIMEOUT_SECONDS = 5.0  # to reach the cluster's door
MAX_RETRIES = 20  # of a call whose process or node is lost; one that brings down each has to end some time


@contextlib.contextmanager
def joined(address: str) -> Iterator[ModuleType]:
    """Ray, while this process is joined to the cluster at auto, HOST:PORT or ray://HOST:PORT.

    Raises InputError, within seconds, if it cannot be reached or Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise InputError(f"cluster.address is {address!r}, and Ray is not installed; run: {INSTALL}") from None
    address = _resolved(address)
    _knock(address)
    # Calls that a node's memory is too small for would be made again without end.
    os.environ.setdefault("RAY_task_oom_retries", str(MAX_RETRIES))
    try:
        # From an empty folder: nodes look for code in the driver's first, and a clone there may be another version.
        with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
            ray.init(
                address,
                runtime_env={"py_modules": [str(Path(__file__).parents[1])]},  # the nodes run this very code
                log_to_driver=False,
                logging_level="ERROR",
            )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        versions = f"Ray {importlib.metadata.version('ray')} and Python {platform.python_version()}"
        raise InputError(
            f"cluster.address: {address} cannot be joined ({' '.join(str(error).split())}); all its nodes need "
            f"{versions}, as here, and a machine that is none of them joins at ray://HOST:10001"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _resolved(address: str) -> str:
    """HOST:PORT or ray://HOST:PORT; auto is what RAY_ADDRESS says, else a cluster that was started on this machine."""
    named = address
    if address == "auto":
        # What ray.init itself asks; but it then tries for minutes to reach a cluster that was killed.
        from ray._private.services import get_ray_address_from_environment

        try:
            address = get_ray_address_from_environment(address, None)
        except ConnectionError:
            raise InputError(f"cluster.address is auto, and no Ray cluster runs on this machine; {START}") from None
        named = f"auto, which RAY_ADDRESS or the last `ray start` says is {address}"
    if not re.fullmatch(r"(ray://)?(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}", address):
        raise InputError(f"cluster.address is {named}; make it auto, HOST:PORT (head:6379) or ray://HOST:PORT")
    return address


def _knock(address: str) -> None:
    """Raise InputError if no gRPC server, as Ray's are, answers at HOST:PORT or ray://HOST:PORT.

    Ray itself tries for minutes.
    """
    if os.environ.get("RAY_USE_TLS") == "1":  # certificates that Ray alone has
        return
    import grpc

    no_proxy = [("grpc.enable_http_proxy", 0)]  # nor does Ray use one
    with grpc.insecure_channel(address.removeprefix("ray://"), options=no_proxy) as channel:
        try:
            grpc.channel_ready_future(channel).result(TIMEOUT_SECONDS)
        except grpc.FutureTimeoutError:
            raise InputError(
                f"cluster.address: no Ray cluster answers at {address} within {TIMEOUT_SECONDS:g} seconds; {START}"
            ) from None
