"""Training in several processes of this machine, begun again at the checkpoint when one of them is killed.

torchrun does the same over machines, with --max-restarts; but it also starts again, as often, what ended with an error
of its own, and buries that error under a traceback.
"""

import logging
import sys
import uuid

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from tqdm import tqdm

MAX_RESTARTS = 3


def launch(n_processes: int, arguments: list[str]) -> int:
    """Run Python with arguments in n_processes that know of each other, as torchrun's do. Returns the exit code.

    If the system or a person kills one, all are started again, MAX_RESTARTS times; if one fails, it has said why.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it tells each failure at length
    rendezvous = {"run_id": uuid.uuid4().hex, "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    config = LaunchConfig(1, 1, n_processes, max_restarts=0, **rendezvous)
    for _ in range(MAX_RESTARTS + 1):
        try:
            elastic_launch(config, sys.executable)(*arguments)
            return 0
        except ChildFailedError as error:
            _, first = error.get_first_failure()  # the others waited, and torch ended them
        if first.exitcode > 0:
            return 1
        tqdm.write(f"a training process was killed ({first.signal_name()})", file=sys.stderr)
    tqdm.write(f"error: training was killed {MAX_RESTARTS + 1} times; is there memory enough?", file=sys.stderr)
    return 1
