"""The settings of a training run, checked when they are made."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from keras_archs.errors import InputError, did_you_mean
from keras_archs.registry import check_arguments

# Set by training itself, from the data.
_NOT_MODEL_ARGS = {
    "input_shape": "image_size",
    "input_tensor": "image_size",
    "classes": "dataset",
    "include_top": None,
    "pooling": None,
    "classifier_activation": None,
}


NETWORK, DATA, OPTIMISATION, SAFETY = "Network", "Data", "Optimisation", "Safety"
MONITORING = "Monitoring"


def _setting(panel: str, description: str, *default: Any, **rest: Any) -> Any:
    """A field with its description and the part of the command line's help that it belongs to."""
    return Field(*default, description=description, json_schema_extra={"panel": panel}, **rest)


class TrainConfig(BaseModel):
    """Everything that determines a run; bad values raise a ValueError that names the field.

    The command line makes its options of these fields.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = _setting(NETWORK, "Name of the network, see keras_archs.list_models().")
    model_args: dict[str, Any] = _setting(NETWORK, "The network's own arguments.", {})
    dataset: str = _setting(
        DATA,
        "fashion_mnist_small or another TFDS name, image_folder:PATH with one folder a class, or"
        " tfrecord:PATTERN.",
    )
    data_dir: Path | None = _setting(DATA, "Where TFDS keeps its datasets.", None)
    image_size: int | None = _setting(
        DATA,
        "Height and width in pixels. If not given: from rho, else the size of the dataset's images"
        " rounded up to a multiple of 32, from 64 to the network's default.",
        None,
        ge=1,
    )
    flip: bool = _setting(DATA, "Mirror half of the training images.", True)
    crop: bool = _setting(
        DATA, "Move training images at random, by up to a sixteenth of their side.", True
    )
    skip_corrupt: bool = _setting(DATA, "Leave out images that cannot be decoded.", False)
    epochs: int = _setting(OPTIMISATION, "Passes over the training images.", 5, ge=1)
    batch_size: int = _setting(OPTIMISATION, "Images in a step.", 64, ge=1)
    optimizer: Literal["adamw", "sgd"] = _setting(
        OPTIMISATION, "adamw, or sgd with Nesterov momentum 0.9.", "adamw"
    )
    learning_rate: float = _setting(
        OPTIMISATION,
        "Peak learning rate. If not given: 0.005 (adamw) or 0.1 (sgd) for 256 images in a step, for"
        " others with the square root (adamw) or in proportion (sgd).",
        default_factory=lambda given: _learning_rate(given["optimizer"], given["batch_size"] / 256),
        gt=0,
    )
    warmup_epochs: float = _setting(
        OPTIMISATION, "Linear warm-up in front of the cosine decay.", 0.5, ge=0
    )
    weight_decay: float = _setting(
        OPTIMISATION,
        "Share of the learning rate by which weights shrink in a step; biases and normalisation do"
        " not. If not given: 0.05 (adamw) or 0.0005 (sgd).",
        default_factory=lambda given: 0.05 if given["optimizer"] == "adamw" else 0.0005,
        ge=0,
    )
    label_smoothing: float = _setting(
        OPTIMISATION, "Share of each label that is spread over all classes.", 0.1, ge=0, lt=1
    )
    batch_norm_momentum: float = _setting(
        OPTIMISATION,
        "Of the moving statistics. Keras' own 0.99 needs thousands of steps to forget its start.",
        0.9,
        ge=0,
        lt=1,
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = _setting(
        OPTIMISATION,
        "float32, mixed_float16 or mixed_bfloat16; the classifier stays in float32.",
        "float32",
    )
    seed: int = _setting(OPTIMISATION, "Of weights, order, dropout and augmentation.", 0, ge=0)
    deterministic: bool = _setting(
        OPTIMISATION,
        "Compute the same to the last bit each time, on the same machine and versions; slower.",
        False,
    )
    checkpoint_steps: int | None = _setting(
        SAFETY,
        "Steps from one checkpoint to the next; there is one at the end of each epoch as well. If"
        " not given: every five minutes.",
        None,
        ge=1,
    )
    on_nan: Literal["stop", "rollback"] = _setting(
        SAFETY,
        "When the loss is not finite: stop, or rollback to the last checkpoint and go on, once for"
        " each step.",
        "stop",
    )
    track: Literal["none", "wandb", "mlflow"] = _setting(
        MONITORING,
        "Send figures and report to wandb (Weights & Biases) or mlflow as well, by their own"
        " settings and environment. TensorBoard's files are written always.",
        "none",
    )

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise InputError(_one_line(error)) from error

    def differences(self, other: "TrainConfig") -> list[str]:
        """The settings that make another run of it, as `"name: mine, other's there"`."""
        return [
            f"{name}: {mine!r} given, {theirs!r} in the run"
            for name in type(self).model_fields
            if name not in _FREE
            and (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]

    @model_validator(mode="after")
    def _fits(self) -> "TrainConfig":
        check_arguments(self.model, self.model_args)
        for argument in self.model_args.keys() & _NOT_MODEL_ARGS.keys():
            instead = _NOT_MODEL_ARGS[argument]
            hint = f"; it follows from {instead}" if instead else ""
            raise InputError(f"model_args may not set {argument!r} in training{hint}.")
        if self.warmup_epochs >= self.epochs:
            raise InputError(
                f"warmup_epochs must be less than epochs={self.epochs}, got {self.warmup_epochs}."
            )
        return self


_FREE = {"data_dir", "checkpoint_steps", "on_nan", "track"}
"""Settings that change nothing of what a run computes."""


def _learning_rate(optimizer: str, share: float) -> float:
    return 0.005 * share**0.5 if optimizer == "adamw" else 0.1 * share


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    if isinstance(cause := first.get("ctx", {}).get("error"), InputError):
        return str(cause)
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"There is no setting {field!r}.{did_you_mean(field, TrainConfig.model_fields)}"
    if first["type"] == "missing":
        return f"The setting {field!r} is missing."
    message = first["msg"].removeprefix("Input ")
    return f"{field} {message}, got {first['input']!r}."
