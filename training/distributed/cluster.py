"""Finds the processes of a distributed job in TF_CONFIG or SLURM's variables."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_archs.errors import InputError

TASKS = ("chief", "worker")
PORT = 8888
"""Port of a node's first task under SLURM, unless KERAS_ARCHS_PORT is set. Other tasks of the node
use the next ports."""


@dataclass(frozen=True)
class Cluster:
    """The processes of a job, and the index of this process.

    Attributes:
        addresses: `host:port` of each process, by index. The first process is the chief.
        index: index of this process.
    """

    addresses: tuple[str, ...]
    index: int

    def tf_config(self) -> str:
        """The value of TF_CONFIG for this cluster."""
        return json.dumps(
            {
                "cluster": {"worker": self.addresses},
                "task": {"type": "worker", "index": self.index},
            }
        )


def find_cluster(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """Returns the job in the environment: from TF_CONFIG if set, otherwise from a SLURM step.

    Raises:
        InputError: a variable is invalid, or has tasks other than chief and workers.
    """
    if "TF_CONFIG" in environment:
        return _from_tf_config(environment["TF_CONFIG"])
    # Only srun sets this variable. A batch script, which is not a worker, also has SLURM_NTASKS.
    if "SLURM_STEP_NUM_TASKS" in environment:
        return _from_slurm(environment)
    return None


def _from_tf_config(text: str) -> Cluster | None:
    try:
        content: dict[str, Any] = json.loads(text)
        cluster = content.get("cluster", {})
        if not cluster:
            return None
        task, index = content["task"]["type"], int(content["task"]["index"])
        addresses = [(name, i) for name in TASKS for i in range(len(cluster.get(name, ())))]
        if {*cluster, task} - {*TASKS}:
            raise InputError(
                f"The tasks in TF_CONFIG must be {' or '.join(TASKS)}, got"
                f" {', '.join(sorted({*cluster, task}))}."
            )
        return Cluster(
            tuple(cluster[name][i] for name, i in addresses), addresses.index((task, index))
        )
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"TF_CONFIG cannot be read ({error!r}): {text!r}.") from error


def _from_slurm(environment: Mapping[str, str]) -> Cluster | None:
    """Reads the cluster from SLURM's variables.

    TensorFlow's SlurmClusterResolver sorts hosts as text (n10 before n2), which is not the order of
    the ranks.
    """
    try:
        if int(environment["SLURM_STEP_NUM_TASKS"]) < 2:
            return None
        hosts = _hosts(environment["SLURM_STEP_NODELIST"])
        counts = _counts(environment["SLURM_STEP_TASKS_PER_NODE"])
        port = int(environment.get("KERAS_ARCHS_PORT", PORT))
        addresses = [
            f"{host}:{port + i}"
            for host, count in zip(hosts, counts, strict=True)
            for i in range(count)
        ]
        index = int(environment["SLURM_PROCID"])
        if not len(addresses) == int(environment["SLURM_STEP_NUM_TASKS"]) > index:
            raise ValueError(f"{len(addresses)} addresses, rank {index}")
    except (ValueError, KeyError) as error:
        values = {name: text for name, text in environment.items() if name.startswith("SLURM_STEP")}
        raise InputError(f"SLURM's variables cannot be read ({error!r}): {values}.") from error
    host, node = addresses[index].rpartition(":")[0], environment.get("SLURMD_NODENAME")
    if node and node != host:
        raise InputError(
            f"SLURM: task {index} runs on {node}, expected on {host}, because the tasks of a node"
            " must be consecutive; start them with srun --distribution=block."
        )
    return Cluster(tuple(addresses), index)


def _hosts(text: str) -> list[str]:
    """Expands a SLURM node list, for example `n[08-10,12],login`."""
    hosts = []
    names = re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text)
    if ",".join(names) != text:
        raise ValueError(f"not a node list: {text!r}")
    for name in names:
        prefixes = [""]
        for plain, ranges in re.findall(r"([^\[]+)|\[([^\]]*)\]", name):
            ends = [plain] if plain else [end for part in ranges.split(",") for end in _range(part)]
            prefixes = [prefix + end for prefix in prefixes for end in ends]
        hosts += prefixes
    return hosts


def _range(text: str) -> list[str]:
    first, _, last = text.partition("-")
    return [f"{i:0{len(first)}}" for i in range(int(first), int(last or first) + 1)]


def _counts(text: str) -> list[int]:
    """Expands SLURM's task counts, for example `2(x3),1`."""
    counts = []
    for part in text.split(","):
        count, _, times = part.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    return counts
