"""Runs on several devices and in several processes against the same runs on one."""

import os
import signal
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import training
from tests.training.runs import (
    TINY,
    call,
    checkpoints,
    finish,
    output,
    start,
    state,
    wait_for,
)
from tests.training.workers import (
    assert_equal_weights,
    run_workers,
    start_workers,
    with_batch_norm,
    without_batch_norm,
)
from training.distributed.devices import Devices, open_devices
from training.settings.config import TrainConfig

BATCH = 24
"""Divides by 2 and by 3; so 32 of each class's 40 images make 4 steps."""


@pytest.fixture(scope="module")
def arguments(images):
    return ["--dataset", f"image_folder:{images}", "--image-size", 32, "--batch-size", BATCH]


@pytest.fixture(scope="module")
def job(arguments):
    rest = ["--optimizer", "sgd", "--learning-rate", 0.1, "--epochs", 3]
    return ["--model", "mobilenet", *arguments, *rest]


@pytest.fixture(scope="module")
def one(job, tmp_path_factory):
    """The run of one process on one device."""
    out = tmp_path_factory.mktemp("one") / "run"
    assert finish(start(out, *job, before=without_batch_norm)) == 0
    return curves(out)


def curves(out):
    rows = training.load_run(out).folder.history()
    return {name: [row[name] for row in rows] for name in rows[0]}


def assert_same_curves(found, expected):
    assert found.keys() == expected.keys()
    assert len(set(found["loss"])) > 1, "nothing is learnt"
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4, err_msg=name)


def two_devices():
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def two_devices_without_batch_norm():
    two_devices()
    without_batch_norm()


@pytest.mark.full
def test_two_devices_learn_what_one_does(job, one, tmp_path):
    out, before = tmp_path / "run", two_devices_without_batch_norm
    mirrored = start(out, *job, "--strategy", "mirrored", before=before)
    assert finish(mirrored) == 0, output(out).read_text()[-3000:]
    assert_same_curves(curves(out), one)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    keras.Model(inputs, keras.layers.Dense(3, "softmax")(pooled)).save(path)
    return path


@pytest.mark.slow
def test_averages_teacher_and_growing_images_on_two_devices(job, teacher, tmp_path):
    job = [*job, "--epochs", 2, "--ema", 0.9, "--teacher", teacher]
    assert_two_devices_are_one([*job, "--image-size", 64, "--progressive-from", 32], tmp_path)


@pytest.mark.full
def test_a_batch_of_fewer_images_on_two_devices(job, tmp_path):
    assert_two_devices_are_one([*job, "--epochs", 2, "--batch-size", 128], tmp_path)  # of 96


def assert_two_devices_are_one(job, folder):
    one, two = folder / "one", folder / "two"
    processes = [
        start(one, *job, before=without_batch_norm),
        start(two, *job, "--strategy", "mirrored", before=two_devices_without_batch_norm),
    ]
    assert [finish(each) for each in processes] == [0, 0], output(two).read_text()[-3000:]
    assert_same_curves(curves(two), curves(one))
    for a, b in zip(state(two), state(one), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_workers_learn_what_one_process_does(job, one, tmp_path, workers):
    out = tmp_path / "run"
    run_workers(out, workers, *job, "--strategy", "multiworker", before=without_batch_norm)
    assert_same_curves(curves(out), one)
    assert_equal_weights(out, workers)
    # The chief alone has a console and TensorBoard.
    assert output(out).read_text().count("Epoch 3/3  loss ") == 1
    for part in ("train", "validation"):
        assert len(list((out / "tensorboard" / part).glob("events.out.tfevents.*"))) == 1


@pytest.mark.full
@pytest.mark.slow
def test_three_workers_with_batch_norm_hold_the_same(job, tmp_path):
    out = tmp_path / "run"
    run_workers(out, 3, *job, "--epochs", 1, "--strategy", "multiworker", before=with_batch_norm)
    assert_equal_weights(out, 3)


@pytest.mark.full
@pytest.mark.usefixtures("tiny")
def test_a_job_is_stopped_and_killed_and_goes_on(arguments, tmp_path):
    whole, out = tmp_path / "whole" / "run", tmp_path / "ended" / "run"
    whole.parent.mkdir()
    out.parent.mkdir()
    job = [*TINY, *arguments, "--strategy", "auto", "--epochs", 8, "--deterministic"]
    job += ["--precision", "mixed_bfloat16", "--checkpoint-steps", 1]
    run_workers(whole, 2, *job)
    assert_equal_weights(whole, 2)

    workers = start_workers(out, 2, *job)
    wait_for(lambda: len(checkpoints(out)) > 1, workers[0])
    os.kill(workers[1].pid, signal.SIGTERM)  # not the chief
    assert [finish(worker) for worker in workers] == [143, 143]
    assert "SIGTERM has stopped the run" in output(out).read_text()

    before = checkpoints(out)
    workers = start_workers(out, 2, *job, "--resume")
    wait_for(lambda: checkpoints(out) and checkpoints(out)[-1] > before[-1], workers[0])
    os.kill(workers[1].pid, signal.SIGKILL)
    assert [finish(worker) for worker in workers] == [1, -signal.SIGKILL]
    assert "Another worker has ended" in output(out).read_text()

    run_workers(out, 2, "--resume", "--strategy", "auto")
    assert_equal_weights(out, 2)
    for a, b in zip(state(out), state(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    # Metrics come back as one sum for all workers, and are rounded otherwise from there on.
    for name, values in curves(whole).items():
        np.testing.assert_allclose(curves(out)[name], values, rtol=1e-5, err_msg=name)


def dense(optimizer):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer, loss="mse")
    model.optimizer.build(model.trainable_variables)
    with keras.StatelessScope():
        model.compute_metrics(None, np.zeros((1, 1)), np.zeros((1, 1)))
    return model


def steps_on_two_devices(optimizer, precision, inputs, targets):
    """The kernel in front of each step on two devices and behind all, and optimizer variables."""
    devices = open_devices("mirrored")
    keras.config.set_dtype_policy(precision)
    with devices.strategy.scope():
        model = dense(keras.optimizers.deserialize(optimizer))
    devices.prepare(model)
    kernels = model.get_weights()
    data = tf.data.Dataset.from_tensor_slices((inputs, targets))
    batches = iter(devices.share(lambda _: data.batch(2), 2))
    for _ in range(len(inputs) // 2):
        model.train_function(batches)
        kernels += model.get_weights()
    return kernels, {each.path: np.asarray(each) for each in model.optimizer.variables}


@pytest.mark.full
def test_gradients_are_clipped_by_the_norm_of_their_sum():
    inputs = np.array([[30, 1], [-2, 3]], "float32")
    targets = np.array([[1], [-50]], "float32")
    optimizer = {"class_name": "SGD", "config": {"learning_rate": 1.0, "global_clipnorm": 1.0}}
    (before, after), _ = call(
        steps_on_two_devices, optimizer, "float32", inputs, targets, before=two_devices
    )
    gradient = 2 * inputs.T @ (inputs @ before - targets) / len(inputs)
    assert np.linalg.norm(gradient) > 1
    np.testing.assert_allclose(before - after, gradient / np.linalg.norm(gradient), rtol=1e-4)


@pytest.mark.full
def test_an_infinity_in_one_replica_skips_the_step_of_all():
    inputs = np.array([[1, 1], [60_000, 60_000]], "float32")  # the second device's overflows
    optimizer = {"class_name": "SGD", "config": {"learning_rate": 1e-6}}
    (before, after), variables = call(
        steps_on_two_devices,
        optimizer,
        "mixed_float16",
        inputs,
        np.zeros((2, 1), "float32"),
        before=two_devices,
    )
    np.testing.assert_array_equal(after, before)
    (scale,) = (value for path, value in variables.items() if path.endswith("dynamic_scale"))
    assert scale == 2**14, "half of the scale that Keras begins with"


@pytest.mark.full
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_gradients_of_several_batches_make_one_step(precision):
    # So small that no gradient overflows, and float16 has them as they are.
    inputs = np.random.default_rng(0).integers(-4, 5, (12, 2)).astype("float32") / 16
    targets = inputs[:, :1]
    settings = {"learning_rate": 250.0, "global_clipnorm": 1e-3, "gradient_accumulation_steps": 3}
    optimizer = {"class_name": "SGD", "config": settings}
    kernels, _ = call(
        steps_on_two_devices, optimizer, precision, inputs, targets, before=two_devices
    )
    kernel = kernels[0]
    for step, (batch, wanted) in enumerate(
        zip(np.split(inputs, 2), np.split(targets, 2), strict=True)
    ):
        for found in kernels[3 * step : 3 * step + 3]:
            np.testing.assert_allclose(found, kernel, atol=2e-3)
        gradient = 2 * batch.T @ (batch @ kernel - wanted) / len(batch)
        assert np.linalg.norm(gradient) > 1e-3
        kernel = kernel - 0.25 * gradient / np.linalg.norm(gradient)
    np.testing.assert_allclose(kernels[-1], kernel, atol=2e-3)


@pytest.mark.full
@pytest.mark.slow
def test_workers_accumulate_as_one_process(job, tmp_path):
    job = [*job, "--accumulate", 2, "--optimizer", "lamb", "--clip-norm", 1]
    for name, workers in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        out = tmp_path / name / "run"
        run_workers(out, workers, *job, "--strategy", "multiworker", before=without_batch_norm)
    assert_same_curves(curves(tmp_path / "two" / "run"), curves(tmp_path / "one" / "run"))
    assert_equal_weights(tmp_path / "two" / "run", 2)


def test_what_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="set TF_CONFIG in each worker, or start the workers"):
        open_devices("multiworker")
    assert open_devices("auto") == Devices(), "one processor and no workers"
    two = Devices(SimpleNamespace(num_replicas_in_sync=2))
    two.check_batch(128, 96)
    with pytest.raises(
        ValueError, match=r"of the 2 devices .* got 128, but the dataset has only 97 "
    ):
        two.check_batch(128, 97)
    with pytest.raises(ValueError, match="of the 2 devices that share it, got 27"):
        two.check_batch(27, 97)
    with pytest.raises(ValueError, match=r"strategy should be 'none', .* got 'horovod'"):
        TrainConfig(model="mobilenet", dataset="fashion_mnist_small", strategy="horovod")
