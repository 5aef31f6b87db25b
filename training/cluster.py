"""Which processes a job of several consists of, from TF_CONFIG or from SLURM."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_archs.errors import InputError

TASKS = ("chief", "worker")
PORT = 8888
"""Of a node's first task under SLURM, unless KERAS_ARCHS_PORT is set; its others follow."""


@dataclass(frozen=True)
class Cluster:
    """The processes of a job, and which of them this one is.

    Attributes:
        addresses: `host:port` of each, in their order; the first one is the chief.
        index: this process' place among them.
    """

    addresses: tuple[str, ...]
    index: int

    def tf_config(self) -> str:
        """The content of TF_CONFIG that says the same."""
        return json.dumps(
            {
                "cluster": {"worker": self.addresses},
                "task": {"type": "worker", "index": self.index},
            }
        )


def find_cluster(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The job that the environment describes: TF_CONFIG if it is there, else a step of SLURM.

    Raises:
        InputError: a description is damaged, or has tasks other than chief and workers.
    """
    if "TF_CONFIG" in environment:
        return _from_tf_config(environment["TF_CONFIG"])
    # Unlike SLURM_NTASKS, srun alone sets it: a process of its own in a batch script is no worker.
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
                f"TF_CONFIG: tasks {', '.join(sorted({*cluster, task}))} given; allowed are"
                f" {' and '.join(TASKS)}."
            )
        return Cluster(
            tuple(cluster[name][i] for name, i in addresses), addresses.index((task, index))
        )
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"TF_CONFIG cannot be read ({error!r}): {text!r}.") from error


def _from_slurm(environment: Mapping[str, str]) -> Cluster | None:
    """TensorFlow's own SlurmClusterResolver sorts hosts as text, n10 in front of n2, which is not
    the order of the ranks."""
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
        given = {name: text for name, text in environment.items() if name.startswith("SLURM_STEP")}
        raise InputError(f"The variables of SLURM cannot be read ({error!r}): {given}.") from error
    host, here = addresses[index].rpartition(":")[0], environment.get("SLURMD_NODENAME")
    if here and here != host:
        raise InputError(
            f"SLURM: task {index} runs on {here}, but on {host} if each node's tasks follow one"
            " another; start them with srun --distribution=block."
        )
    return Cluster(tuple(addresses), index)


def _hosts(text: str) -> list[str]:
    """`n[08-10,12],login` in full."""
    hosts = []
    names = re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text)
    if ",".join(names) != text:
        raise ValueError(f"no list of nodes: {text!r}")
    for name in names:
        found = [""]
        for plain, ranges in re.findall(r"([^\[]+)|\[([^\]]*)\]", name):
            ends = [plain] if plain else [end for part in ranges.split(",") for end in _range(part)]
            found = [start + end for start in found for end in ends]
        hosts += found
    return hosts


def _range(text: str) -> list[str]:
    first, _, last = text.partition("-")
    return [f"{i:0{len(first)}}" for i in range(int(first), int(last or first) + 1)]


def _counts(text: str) -> list[int]:
    """`2(x3),1` in full."""
    counts = []
    for part in text.split(","):
        count, _, times = part.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    return counts
