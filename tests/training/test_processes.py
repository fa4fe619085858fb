"""Several processes on this machine train one run: to the same bits as one, and all of them end together."""

from __future__ import annotations

import itertools
import os
import signal
import socket
from contextlib import contextmanager

import pytest
from light_engine import make_light_engine
from plugins import POINT, forgotten
from ports import free_ports
from whole_runs import SMALL, assert_same_run, evoconn, resume_small, run_small, wait_for_generation

from evoconn_cli.config.loading import load_config
from evoconn_cli.config.plugins import load_plugins
from evoconn_cli.errors import ConfigError, ProcessLostError, TrainingError
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.training.checkpoints import CheckpointStore
from evoconn_cli.training.cluster import Cluster, choose_cluster, join
from evoconn_cli.training.opening import create_run, join_run
from evoconn_cli.training.processes import SILENCE, JoinedProcesses, Processes

ENDLESS = "algo.generations=1000000"
ES = ["algo.name=es", "network.name=mlp", "rollout.fitness=until_slowest", "rollout.warmup_steps=2"]


@contextmanager
def together(count, *arguments, cwd, light=False, slurm=False):
    """Starts so many processes, of which none is left at the end; with `slurm` as SLURM would."""
    (port,), job = free_ports(1), os.getpid()  # JAX makes the port of the coordinator from the number of the job
    here = {**os.environ, "WANDB_MODE": "disabled"}
    processes = []
    for i in range(count):
        by_hand = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count), "--process-id", str(i)]
        by_slurm = {"JOB_ID": job, "STEP_NODELIST": "localhost", "NTASKS": count, "PROCID": i, "LOCALID": i}
        variables = {f"SLURM_{name}": str(value) for name, value in by_slurm.items()} if slurm else {}
        options = ["--distributed"] if slurm else by_hand
        started = evoconn(*arguments, *options, cwd=cwd, light=light, env={**here, **variables}, start_new_session=True)
        processes.append(started)
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.stdout.close()
            process.wait(timeout=10)


def ends(processes, timeout=120) -> tuple[list[int], list[str]]:
    """Returns the exit codes and the outputs."""
    outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    return [process.returncode for process in processes], outputs


def train(*overrides):
    return ["train", "--config", "smoke", "--run-dir", "run", "--devices", "1", *SMALL, *overrides]


def last_saved(path) -> int:
    return RunDirectory.open(path).last_saved_generation()


@pytest.mark.slow
def test_a_run_of_two_processes_that_three_go_on_with_is_that_of_one(tmp_path):
    """SIGTERM reaches process 1 alone: both end after the same generation, and what process 0 saved is all there is."""
    with together(2, *train(ENDLESS), cwd=tmp_path) as processes:
        wait_for_generation(processes[0], 1)
        processes[1].send_signal(signal.SIGTERM)
        codes, outputs = ends(processes)
    assert codes == [75, 75], outputs
    assert "another process was asked to end" in outputs[0] and "SIGTERM" in outputs[1]
    saved = last_saved(tmp_path / "run")
    assert saved == len(read_metrics(tmp_path / "run" / "metrics.jsonl"))
    assert RunDirectory.open(tmp_path / "run").read_facts()["processes"] == 2
    resume = ["resume", "run", "--devices", "1", "--generations", str(saved + 3)]
    with together(3, *resume, cwd=tmp_path) as processes:
        codes, outputs = ends(processes)
    assert codes == [0] * 3, outputs
    run_small(tmp_path / "straight", f"algo.generations={saved + 3}")
    assert_same_run(tmp_path / "straight", tmp_path / "run")


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_with_all_saved(tmp_path):
    with together(2, *train(ENDLESS, *ES, "checkpoint.every=1000000"), cwd=tmp_path) as processes:
        wait_for_generation(processes[0], 1)
        processes[1].kill()
        codes, outputs = ends(processes)
    assert codes == [76, -signal.SIGKILL], outputs
    assert "another one died" in outputs[0] and "start all processes again" in outputs[0]
    saved = last_saved(tmp_path / "run")
    assert saved == len(read_metrics(tmp_path / "run" / "metrics.jsonl")), (
        "the generation that was cut off left nothing"
    )
    assert resume_small(tmp_path / "run", f"algo.generations={saved + 2}").finished
    run_small(tmp_path / "straight", f"algo.generations={saved + 2}", "checkpoint.every=1000000", *ES)
    assert_same_run(tmp_path / "straight", tmp_path / "run")


class Store:
    """The key-value store of a cluster, as process 0 of two sees it.

    Attributes:
        beats: how often process 1 has been asked for a beat and gave a new one, before it falls silent.
    """

    def __init__(self, beats: int) -> None:
        self.beats, self._asked = beats, 0

    def key_value_set(self, *_, **__) -> None:
        pass

    def key_value_try_get(self, key: str) -> str:
        if not key.endswith("beat/1"):
            raise KeyError(key)
        self._asked += 1
        return str(min(self._asked, self.beats))

    def blocking_key_value_get_bytes(self, *_) -> bytes:
        raise RuntimeError("DEADLINE_EXCEEDED")


@pytest.mark.parametrize("beats", [0, 3, 50])
def test_a_wait_for_a_process_that_does_not_live_ends(beats):
    """A wait goes on as long as the process lives; each look at the clock is a second later here."""
    clock = itertools.count()
    processes = JoinedProcesses(Store(beats), index=0, count=2, clock=lambda: next(clock))
    with pytest.raises(ProcessLostError, match="another one died"):
        processes.agree_on(True)
    assert next(clock) == pytest.approx(beats + SILENCE, abs=3)


@pytest.mark.slow
def test_several_processes_end_by_themselves_where_one_does(tmp_path):
    """Process 1 has no metrics of earlier generations, and needs them to know the best network and when to end."""
    options = ["algo.generations=1000", "algo.patience=12", "checkpoint.every=5"]
    alone = run_small(tmp_path / "alone", *options, make_engine=make_light_engine)
    for command in (
        train(*options, "algo.max_env_steps=14"),
        ["resume", "run", "--devices", "1", "algo.max_env_steps=null"],
    ):
        with together(2, *command, cwd=tmp_path, light=True) as processes:
            codes, outputs = ends(processes)
        assert codes == [0, 0], outputs
    assert alone.ending.by == "algo.patience" and "no better network" in outputs[0]
    assert_same_run(tmp_path / "alone", tmp_path / "run", make_light_engine)
    best = [CheckpointStore(tmp_path / run / "checkpoints").best() for run in ("alone", "run")]
    assert best == [alone.best.generation] * 2


@pytest.mark.slow
def test_without_the_writer_the_others_end(tmp_path):
    with together(3, *train(ENDLESS), cwd=tmp_path, light=True) as processes:
        wait_for_generation(processes[0], 1)
        processes[0].kill()
        codes, outputs = ends(processes)
    assert codes == [-signal.SIGKILL, 76, 76], outputs
    assert all("Error: process" in output and "another one died" in output for output in outputs[1:])


@pytest.mark.slow
def test_an_error_of_the_writer_is_that_of_all(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    with together(2, *train(), cwd=tmp_path, light=True, slurm=True) as processes:
        codes, outputs = ends(processes)
    assert codes == [1, 1]
    assert "exists already and is not empty" in outputs[0] and "process 0 on" in outputs[1]
    assert "exists already and is not empty" in outputs[1]


@pytest.mark.slow
def test_processes_that_come_to_different_states_say_so_and_save_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("EVOCONN_TEST_ODD_PROCESS", "1")
    with together(2, *train(), cwd=tmp_path, light=True) as processes:
        codes, outputs = ends(processes)
    assert codes == [1, 1]
    for output in outputs:
        assert "the state after generation 2 is not the same in all processes" in output
    assert last_saved(tmp_path / "run") == 0


class Follower(Processes):
    """A process that gets what the writer sends, and says what it would compare."""

    is_writer, count = False, 2

    def __init__(self, sent: bytes) -> None:
        self.sent = sent

    def broadcast(self, data):
        return self.sent

    def check_same(self, digest, what, remedy=""):
        raise TrainingError(f"{digest} {what} {remedy}")


class Writer(Follower):
    """Process 0 of such processes."""

    is_writer = True

    def broadcast(self, data):
        self.sent = data
        return data


def test_all_processes_of_a_run_need_the_same_plugins(tmp_path):
    writer, compared = Writer(b""), []
    for text in (POINT, POINT, POINT + "# changed\n"):
        (tmp_path / "point.py").write_text(text)
        with forgotten():
            load_plugins([str(tmp_path / "point.py")])
            with pytest.raises(TrainingError, match="a plug-in Give the same files") as caught:
                if compared:
                    join_run(Follower(writer.sent))
                else:
                    create_run(load_config(None, ["task.name=point"]), tmp_path / "run", writer)
            compared.append(str(caught.value).split()[0])
    assert compared[0] == compared[1] != compared[2]
    with pytest.raises(ConfigError, match="the run of process 0 uses the task 'point' .* Add --plugin"):
        join_run(Follower(writer.sent))


@pytest.mark.parametrize(
    "options, message",
    [
        ((False, "host:1", None, None), "--num-processes, --process-id is missing"),
        ((True, None, 2, 0), "--coordinator is missing"),
        ((False, "host:1", 2, 2), "numbered from 0"),
        ((False, "host", 2, 0), "HOST:PORT"),
        ((False, "host:0", 2, 0), "HOST:PORT"),
    ],
)
def test_options_that_do_not_make_a_cluster(options, message):
    with pytest.raises(ConfigError, match=message):
        choose_cluster(*options)


def test_options_that_make_one():
    assert choose_cluster(False, None, None, None) is None
    assert choose_cluster(True, None, None, None) == Cluster(None, None, None)
    assert choose_cluster(False, "[::1]:99", 2, 1) == Cluster("[::1]:99", 2, 1)
    assert join(None).count == join(Cluster("nowhere:1", 1, 0)).count == 1


def test_an_address_that_cannot_be_used_is_found_before_jax_starts(monkeypatch):
    def unknown_host(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patch, pytest.raises(ConfigError, match="--coordinator=no-such-host.invalid:99: "):
        patch.setattr(socket, "getaddrinfo", unknown_host)
        join(Cluster("no-such-host.invalid:99", 2, 1))
    with pytest.raises(ConfigError, match="--coordinator=a..b:99: "):
        join(Cluster("a..b:99", 2, 1))
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="the port cannot be opened here"):
            join(Cluster(f"127.0.0.1:{taken.getsockname()[1]}", 2, 0))
