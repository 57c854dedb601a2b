import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from stages.cli import InputError
from stages.cluster import Call, RayCluster, ThisMachine, join, ray_cluster, workers
from stages.cluster.files import SharedFolder, Storage
from stages.cluster.node import run_on_node
from stages.download import __main__ as download
from stages.features import __main__ as features
from stages.features.encoder import open_clip
from stages.params import Cluster
from stages.shard import __main__ as shard
from stages.variogram import __main__ as variogram
from stages.variogram import exhaustive

ray = pytest.importorskip("ray", reason="the extra [cluster] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")  # Ray's own

FIND_LOSS_QUICKLY = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 200,
    "health_check_failure_threshold": 5,
}


@pytest.fixture(scope="module")
def nodes():
    """A Ray cluster of a head without cores and two nodes of one core each, as processes of this machine."""
    from ray.cluster_utils import Cluster as TestCluster

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes cannot import the tests
    started = TestCluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": FIND_LOSS_QUICKLY})
    for _ in range(2):
        started.add_node(num_cpus=1)
    yield started
    started.shutdown()


@pytest.fixture
def on_nodes(nodes, tmp_path, monkeypatch):
    """A function that gives the map over the cluster's nodes, with or without a storage; in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    with workers(Cluster(address=nodes.address, storage=None)) as machine:
        assert isinstance(machine, RayCluster)
        yield lambda storage=None: RayCluster(ray, Storage(storage)) if storage else machine


@contextlib.contextmanager
def gpu_node(nodes):
    """A node that says that it has a GPU: calls on_gpu come to it alone."""
    node = nodes.add_node(num_cpus=1, num_gpus=1)
    try:
        yield node
    finally:
        if node in nodes.worker_nodes:
            nodes.remove_node(node, allow_graceful=False)


def double(path, out, *, n_cores, advance):
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(2 * path.read_bytes())
    advance(1)
    advance(2)
    return n_cores


def until(is_so):
    """Wait for something, a minute at most."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ignored(n_done):
    pass


def files_of(n):
    """Calls that double files 0 to n - 1."""
    Path("in").mkdir()
    calls = []
    for number in range(n):
        path, out = Path(f"in/{number}"), Path(f"out/{number}")
        path.write_text(f"{number},")
        calls.append(Call((path, out), (path,), (out,)))
    return calls


def test_this_machine_makes_the_calls_in_order_as_the_results_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls, told = iter(files_of(3)), []
    results = ThisMachine(5).map(double, calls, told.append)
    assert next(results) == 5
    assert Path("out/0").read_text() == "0,0,"
    assert not Path("out/1").exists()
    assert list(results) == [5, 5]
    assert told == [1, 2] * 3


@pytest.mark.parametrize("has_storage", [False, True])
def test_nodes_write_the_files_that_this_machine_writes_and_leave_nothing_else(on_nodes, tmp_path, has_storage):
    calls, told, storage = files_of(12), [], tmp_path / "storage"
    machine = on_nodes(storage.as_uri() if has_storage else None)
    assert list(machine.map(double, calls, told.append)) == [1] * 12
    assert told == [3] * 12
    assert {path.name: path.read_text() for path in Path("out").iterdir()} == {str(i): f"{i},{i}," for i in range(12)}
    assert [path for path in storage.rglob("*") if path.is_file()] == []


def test_a_shared_value_is_an_argument_like_others(on_nodes):
    def total(values, number, *, n_cores, advance):
        return float(values.sum()) + number

    for machine in (ThisMachine(), on_nodes()):
        values = machine.share(np.arange(1000.0))
        calls = [Call((values, number)) for number in range(30)]
        assert list(machine.map(total, calls, ignored)) == [499500.0 + number for number in range(30)]


def slow(marks, number, victim, out, *, n_cores, advance):
    node = ray.get_runtime_context().get_node_id()
    (marks / f"{number} {node}").touch()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("half")
    time.sleep(60 if node == victim else 0.1)
    out.write_text(f"whole {number}")
    advance(1)
    return number


def test_the_calls_of_a_node_that_is_lost_are_made_elsewhere(nodes, on_nodes, tmp_path, capfd):
    marks, told = tmp_path / "marks", []
    marks.mkdir()
    victim = nodes.add_node(num_cpus=1)
    calls = [Call((marks, i, victim.node_id, Path(f"out/{i}")), (), (Path(f"out/{i}"),)) for i in range(12)]
    results = on_nodes().map(slow, calls, told.append)
    with ThreadPoolExecutor(1) as beside:
        found = beside.submit(list, results)
        until(lambda: list(marks.glob(f"* {victim.node_id}")))
        nodes.remove_node(victim, allow_graceful=False)
    assert found.result() == list(range(12))
    assert sum(told) == 12
    assert {path.name: path.read_text() for path in Path("out").iterdir()} == {str(i): f"whole {i}" for i in range(12)}
    assert len(list(marks.iterdir())) == 13  # one of them twice
    assert capfd.readouterr().err == "1 of 4 nodes were lost; their calls ran on others\n"


def test_an_error_that_a_person_can_mend_comes_back_as_it_was(on_nodes):
    def fail(*, n_cores, advance):
        raise InputError("photo 7 is damaged; get it again")

    with pytest.raises(InputError, match=r"^photo 7 is damaged; get it again$"):
        list(on_nodes().map(fail, [Call(())], ignored))


def test_a_call_that_brings_down_each_process_ends(on_nodes, monkeypatch):
    def die(*, n_cores, advance):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ray_cluster, "MAX_RETRIES", 1)
    Path("in").mkdir()
    Path("in/7").touch()
    with pytest.raises(InputError, match=r"not bring in/7 to an end, .* 1 more .*WorkerCrashed.*look at the nodes"):
        list(on_nodes().map(die, [Call((), (Path("in/7"),))], ignored))


@pytest.mark.parametrize(
    ("storage", "reason"),
    [("nothing://bucket", "ValueError: Protocol not known: nothing"), ("file:///proc/none", "FileNotFoundError")],
)
def test_a_storage_that_fails_is_named_with_its_reason(on_nodes, storage, reason):
    with pytest.raises(InputError, match=rf"cluster.storage {storage} fails on .*{reason}.*check the URL"):
        list(on_nodes(storage).map(double, files_of(1), ignored))


def test_a_folder_that_nodes_do_not_see_is_named(on_nodes):
    with pytest.raises(InputError, match=r"node .* does not see /.*/in/0; let all nodes share .*cluster\.storage"):
        list(on_nodes().map(double, [Call((Path("in/0"), Path("out")), (Path("in/0"),))], ignored))


def test_a_file_that_a_node_wrote_elsewhere_is_named(on_nodes, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(files_of(1)[0].reads[0].parent, elsewhere / "in")
    machine = RayCluster(ray, SharedFolder(elsewhere))
    with pytest.raises(InputError, match=r"a node wrote out/0 to a folder that is not this one .*cluster\.storage"):
        list(machine.map(double, [Call((Path("in/0"), Path("out/0")), (Path("in/0"),), (Path("out/0"),))], ignored))


def test_what_a_lost_process_left_half_written_is_removed(on_nodes):
    calls = files_of(2)
    Path("out").mkdir()
    Path("out/.0.beef.partial").touch()
    Path("out/.9.beef.partial").touch()
    list(on_nodes().map(double, calls, ignored))
    assert {path.name for path in Path("out").iterdir()} == {"0", "1", ".9.beef.partial"}


def test_a_call_takes_its_folder_away_and_those_of_processes_that_were_killed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls, scratch = files_of(1), tmp_path / "scratch"
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine = f"varioclip-{socket.gethostname()}-{{}}-x"
    for name in (kept := {mine.format(os.getpid()), f"varioclip-another-{dead.pid}-x", "other"}):
        (scratch / name).mkdir(parents=True)
    (scratch / mine.format(dead.pid) / "raw").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    (call,) = calls
    assert run_on_node(double, SharedFolder(tmp_path), 1, call.reads, call.writes, *call.args) == (1, 3)
    assert {path.name for path in scratch.iterdir()} == kept


def test_each_run_has_a_folder_in_the_storage_and_the_next_removes_what_a_killed_one_left(tmp_path, monkeypatch):
    bucket, runs, folders = tmp_path / "bucket", [], []
    for name in ("one", "two", "one"):
        (tmp_path / name / "in").mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        Path("in/0").write_text(name)
        runs.append(Storage.opened(bucket.as_uri()))  # which are never left, as if killed
        folders.append(runs[-1].__enter__())
        folders[-1].bring(Path("in/0"))
    assert len({folder.url for folder in folders}) == 3
    assert sorted(path.read_text() for path in bucket.rglob("*") if path.is_file()) == ["one", "two"]
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        with Storage.opened(bucket.as_uri()) as last:
            last.bring(Path("in/0"))
    assert [path for path in bucket.rglob("*") if path.is_file()] == []


def test_a_storage_that_cannot_be_cleared_does_not_hide_why_the_run_ended(tmp_path, monkeypatch, capfd):
    def fail(self):
        raise InputError("no rights")

    def run():
        with Storage.opened(tmp_path.as_uri()):
            monkeypatch.setattr(Storage, "_remove", fail)
            raise InputError("photo 7 is damaged")

    with pytest.raises(InputError, match=r"^photo 7 is damaged$"):
        run()
    assert capfd.readouterr().err == "files are left in cluster.storage: no rights\n"


def test_a_password_in_the_storage_url_is_not_shown():
    with pytest.raises(InputError, match=r"cluster\.storage nothing://bucket/a fails on ") as error:
        Storage("nothing://me:secret@bucket/a").bring(Path("x"))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("nodes_have", "on_gpu", "need", "n"),
    [
        ([{"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}], False, {"num_cpus": 1, "num_gpus": 0}, [4, 2]),
        ([{"CPU": 4.0}, {"CPU": 2.0}], True, {"num_cpus": 1, "num_gpus": 0}, [4, 2]),
        (
            [{"CPU": 64.0}, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 9.0, "GPU": 1.0}],
            True,
            {"num_cpus": 8, "num_gpus": 1},
            [0, 2, 1],
        ),
        ([{"CPU": 1.0, "GPU": 4.0}], True, {"num_cpus": 1, "num_gpus": 1}, [1]),
        ([{"GPU": 1.0}, {"CPU": 3.0}], True, {"num_cpus": 1, "num_gpus": 0}, [0, 3]),
        ([{}], True, {"num_cpus": 1, "num_gpus": 0}, [0]),
    ],
    ids=["cores", "no GPU", "GPUs with their cores", "more GPUs than cores", "a GPU without cores", "head alone"],
)
def test_a_call_takes_a_core_or_a_gpu_with_its_share_of_the_cores(nodes_have, on_gpu, need, n):
    assert ray_cluster.need_of_a_call(nodes_have, on_gpu) == need
    assert [ray_cluster.n_at_once(node, need) for node in nodes_have] == n


def test_calls_that_no_node_can_make_wait_for_one_that_joins_and_say_so(nodes, on_nodes, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(ray_cluster, "WAIT_SECONDS", 0.2)
    marks = tmp_path / "marks"
    marks.mkdir()
    with ThreadPoolExecutor(1) as beside:
        with gpu_node(nodes) as first:
            calls = [Call((marks, i, first.node_id, Path(f"out/{i}")), (), (Path(f"out/{i}"),)) for i in range(3)]
            found = beside.submit(list, on_nodes().map(slow, calls, ignored, on_gpu=True))
            until(lambda: any(marks.iterdir()))
        said = []
        until(lambda: said.append(capfd.readouterr().err) or "".join(said))
        with gpu_node(nodes):
            assert found.result() == [0, 1, 2]
    assert "".join(said) == "no node of the cluster has a GPU with its share of cores; waiting for one that joins\n"


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(InputError, match=r"'auto', and Ray is not installed; run: pip install .*\.\[cluster\]"),
        workers(Cluster(address="auto", storage=None)),
    ):
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("listens", [False, True], ids=["nothing listens", "another server"])
def test_an_address_without_a_cluster_is_named_within_seconds(scheme, listens, monkeypatch):
    monkeypatch.setattr(join, "TIMEOUT_SECONDS", 0.5)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        address = f"{scheme}127.0.0.1:{other.getsockname()[1]}"
        started = time.monotonic()
        with (
            pytest.raises(InputError, match=rf"no Ray cluster answers at {address} within 0.5 .*or set .* to null"),
            workers(Cluster(address=address, storage=None)),
        ):
            pass
        assert time.monotonic() - started < 5


def test_no_address_is_this_machine():
    with workers(Cluster(address=None, storage=None)) as machine:
        assert machine == ThisMachine(len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("address", ["", "head", "ray://head", "head:", "head:six", "http://head:6379", "head:6379/a"])
def test_an_address_that_is_none_is_answered_with_what_one_is(address):
    with (
        pytest.raises(
            InputError, match=rf"cluster.address is {address}; make it auto, HOST:PORT \(head:6379\) or ray:"
        ),
        workers(Cluster(address=address, storage=None)),
    ):
        pass


@pytest.mark.parametrize("said_by", ["RAY_ADDRESS", "the last start"])
def test_auto_finds_within_seconds_that_its_cluster_was_killed(said_by, monkeypatch):
    monkeypatch.setattr(join, "TIMEOUT_SECONDS", 0.5)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        if said_by == "RAY_ADDRESS":
            monkeypatch.setenv("RAY_ADDRESS", address)
        else:
            monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
            monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda folder: address)
        with (
            pytest.raises(InputError, match=rf"no Ray cluster answers at {address} within 0.5"),
            workers(Cluster(address="auto", storage=None)),
        ):
            pass


def test_auto_without_a_cluster_says_how_to_start_one(monkeypatch):
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda folder: None)
    with (
        pytest.raises(InputError, match="is auto, and no Ray cluster runs on this machine; start the cluster, as with"),
        workers(Cluster(address="auto", storage=None)),
    ):
        pass


def test_a_cluster_of_another_version_is_named_with_both(nodes, monkeypatch):
    monkeypatch.setattr(ray, "__version__", "2.0.0")
    with (
        pytest.raises(
            InputError, match=r"cannot be joined \(Version mismatch: .*Ray: 2\.0\.0.*all its nodes need Ray \d"
        ),
        workers(Cluster(address=nodes.address, storage=None)),
    ):
        pass


def test_nodes_run_the_code_that_was_sent_also_beside_another_clone_and_a_proxy(nodes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    calls = files_of(1)
    Path("stages").mkdir()
    Path("stages/__init__.py").write_text("raise ImportError('an older clone')")
    with workers(Cluster(address=nodes.address, storage=None)) as machine:
        assert list(machine.map(double, calls, ignored)) == [1]


def test_a_call_that_a_nodes_memory_is_too_small_for_ends(nodes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_task_oom_retries", "1")
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")  # for the node that is started now: always too full
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")

    def take_a_while(*, n_cores, advance):
        time.sleep(60)

    with (
        gpu_node(nodes),
        workers(Cluster(address=nodes.address, storage=None)) as machine,
        pytest.raises(InputError, match=r"not bring a part of the pairs to an end.*OutOfMemoryError: "),
    ):
        list(machine.map(take_a_while, [Call(())], ignored, on_gpu=True))


def test_a_package_that_a_node_lacks_is_named(on_nodes):
    def use_another(*, n_cores, advance):
        import a_package_of_the_driver  # noqa: F401

    with pytest.raises(InputError, match=r"lacks a package \(No module named 'a_package.*run on every machine: pip"):
        list(on_nodes().map(use_another, [Call(())], ignored))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with params and a small world; gives a function that sets the cluster's address."""
    shutil.copy("params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)

    def set_address(address):
        yaml = YAML()
        params = yaml.load(Path("params.yaml"))
        params["data"]["world"].update({"n_train": 300, "n_test": 20, "height_px": 32})
        params["features"]["pretrained"] = "weights.pt"  # beside the params: a node works in a folder of its own
        params["cluster"]["address"] = address
        yaml.dump(params, Path("params.yaml"))

    set_address(None)
    torch.save(open_clip.create_model("varioclip-tiny").state_dict(), "weights.pt")
    download.main()
    return set_address


def outputs():
    folders = "data/world/shards", "data/world/features", "data/variogram", "reports/variogram"
    return {path: path.read_bytes() for folder in folders for path in Path(folder).rglob("*") if path.is_file()}


def test_the_stages_write_the_same_bytes_on_the_cluster(nodes, world, monkeypatch):
    monkeypatch.setattr(exhaustive, "PART", 64)  # several calls, though there are few photos
    for stage in (shard, features, variogram):
        stage.main()
    here = outputs()
    assert len([path for path in here if path.suffix in (".parquet", ".arrow")]) > 10
    for path in here:
        path.unlink()
    world(nodes.address)
    for stage in (shard, features, variogram):
        stage.main()
    assert outputs() == here
