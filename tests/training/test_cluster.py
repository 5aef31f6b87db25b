"""Workers of a job, as TF_CONFIG and SLURM describe them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.distributed.cluster import find_cluster


def slurm(rank, tasks, nodes, per_node):
    return {
        "SLURM_PROCID": str(rank),
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": per_node,
    }


def test_ranks_of_slurm_are_in_the_order_of_its_nodes():
    # What `srun hostname` prints by rank, from the manual of `scontrol show hostnames`.
    cluster = find_cluster(slurm(3, 6, "gpu[8-10,12],login", "1(x2),2,1(x2)"))
    hosts = ["gpu8:8888", "gpu9:8888", "gpu10:8888", "gpu10:8889", "gpu12:8888", "login:8888"]
    assert json.loads(cluster.tf_config()) == {
        "cluster": {"worker": hosts},
        "task": {"type": "worker", "index": 3},
    }
    assert find_cluster(slurm(0, 1, "gpu8", "1")) is None, "a step of one task is no cluster"
    assert find_cluster({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}) is None, "no step of srun"
    other = find_cluster(slurm(0, 2, "n-1-a,n-1-b", "1(x2)") | {"KERAS_ARCHS_PORT": "9000"})
    assert other.addresses == ("n-1-a:9000", "n-1-b:9000")


def test_tasks_that_are_dealt_out_to_the_nodes_are_refused():
    # By the manual of srun, -m cyclic gives the first two of four tasks to two nodes, one each.
    tasks = slurm(1, 4, "n[1-2]", "2(x2)")
    assert find_cluster(tasks | {"SLURMD_NODENAME": "n1"}).index == 1
    with pytest.raises(
        ValueError, match=r"task 1 runs on n2, expected on n1, .*--distribution=block"
    ):
        find_cluster(tasks | {"SLURMD_NODENAME": "n2"})


@given(st.integers(0, 90), st.integers(1, 12), st.integers(1, 4), st.integers(2, 3))
def test_hosts_with_leading_zeros(first, nodes, per_node, digits):
    names = [f"n{i:0{digits}}" for i in range(first, first + nodes)]
    text = f"n[{first:0{digits}}-{first + nodes - 1:0{digits}}]"
    tasks = nodes * per_node
    if tasks > 1:
        cluster = find_cluster(slurm(tasks - 1, tasks, text, f"{per_node}(x{nodes})"))
        assert cluster.addresses == tuple(
            f"{name}:{8888 + i}" for name in names for i in range(per_node)
        )


def tf_config(task, index, **cluster):
    config = {"cluster": cluster, "task": {"type": task, "index": index}}
    return {"TF_CONFIG": json.dumps(config)}


def test_the_chief_of_tf_config_comes_first():
    cluster = find_cluster(tf_config("worker", 1, worker=["b:1", "c:1"], chief=["a:1"]))
    assert cluster.addresses == ("a:1", "b:1", "c:1")
    assert cluster.index == 2
    assert find_cluster({"TF_CONFIG": "{}"}) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "worker"}, "TF_CONFIG cannot be read"),
        (tf_config("worker", 2, worker=["a:1", "b:1"]), "TF_CONFIG cannot be read"),
        (
            tf_config("ps", 0, worker=["a:1"], ps=["b:1"]),
            "tasks in TF_CONFIG must be chief or worker, got ps, worker",
        ),
        (slurm(0, 3, "n[1-2]", "1(x2)"), "SLURM's variables cannot be read.*2 addresses"),
        (slurm(0, 2, "n[1-2", "1(x2)"), "SLURM's variables cannot be read"),
    ],
)
def test_damaged_descriptions_are_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        find_cluster(environment)
