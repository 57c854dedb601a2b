"""Training in several processes of this machine, begun again at the checkpoint when one of them is killed.

torchrun does the same over machines, with --max-restarts; but it also starts again, as often, what ended with an error
of its own, and buries that error under a traceback.
"""

import logging
import os
import sys
import uuid

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from tqdm import tqdm

MAX_RESTARTS = 3


def launch(n_processes: int, arguments: list[str]) -> int:
    """Run Python with arguments in n_processes that know of each other, as torchrun's do. Returns the exit code.

    If the system or a person kills one, all are started again, MAX_RESTARTS times; if one fails, it has said why. A
    signal that ends this process ends them first.
    """
    for name in ("torch.distributed.elastic", "torch.distributed.elastic.agent.server.api"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they tell each failure and signal at length
    # Else each starts a thread for every core, and all wait for cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // n_processes)))
    rendezvous = {"run_id": uuid.uuid4().hex, "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    # Not SIGINT, which torch would pass on for each process to report: so it ends them, and Ctrl-C is any command's.
    config = LaunchConfig(1, 1, n_processes, max_restarts=0, signals_to_handle="SIGTERM,SIGHUP,SIGQUIT", **rendezvous)
    for _ in range(MAX_RESTARTS + 1):
        try:
            elastic_launch(config, sys.executable)(*arguments)
            return 0
        except SignalException as ended:
            return 128 + ended.sigval
        except ChildFailedError as error:
            _, first = error.get_first_failure()  # the others waited, and torch ended them
        if first.exitcode > 0:
            return 1
        tqdm.write(f"a training process was killed ({first.signal_name()})", file=sys.stderr)
    tqdm.write(f"error: training was killed {MAX_RESTARTS + 1} times; is there memory enough?", file=sys.stderr)
    return 1
