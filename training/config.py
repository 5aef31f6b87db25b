"""The settings of a training run, checked when they are made."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import fields
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticSerializationError, to_jsonable_python

from keras_archs.arguments import plain
from keras_archs.errors import InputError, did_you_mean, shown
from keras_archs.registry import check_arguments, find

from .data.augmentation import Augmentation, Crop, Policy

# Set by training itself, from the data.
_NOT_MODEL_ARGS = {
    "input_shape": "image_size",
    "input_tensor": "image_size",
    "classes": "dataset",
    "include_top": None,
    "pooling": None,
    "classifier_activation": None,
    "include_preprocessing": None,  # batches are preprocessed
}


NETWORK, DATA, AUGMENTATION = "Network", "Data", "Augmentation"
OPTIMISATION, SAFETY = "Optimisation", "Safety"
FINE_TUNING, DISTILLATION = "Fine-tuning", "Distillation"
DEVICES, MONITORING = "Devices", "Monitoring"


def _setting(panel: str, description: str, *default: Any, **rest: Any) -> Any:
    """A field with its description and the part of the command line's help that it belongs to."""
    return Field(*default, description=description, json_schema_extra={"panel": panel}, **rest)


class OptimizerDefaults(NamedTuple):
    """What an optimizer does without being told: its rate for 256 images, and how that scales."""

    learning_rate: float
    power: float
    weight_decay: float


DEFAULTS = {
    "adamw": OptimizerDefaults(0.005, 0.5, 0.05),
    "sgd": OptimizerDefaults(0.1, 1, 0.0005),
    "rmsprop": OptimizerDefaults(0.016, 1, 1e-5),  # 0.256 for 4,096: EfficientNet
    "lamb": OptimizerDefaults(0.0018, 0.5, 0.02),  # 0.005 for 2,048: ResNet strikes back
}
OF_OPTIMIZER = {"learning_rate", "final_learning_rate", "weight_decay"}
"""Settings that say nothing for another optimizer."""


def overridden(own: Mapping[str, Any], overrides: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Settings of a recipe or a run, and over them those given; `model_args` are added to.

    A warm-up, and steps of the learning rate, for which the given `epochs` leave no room are
    shortened in proportion, with a warning.

    Args:
        own: the settings of the recipe or run.
        overrides: those given.
        source: of `own`, as the warning calls it.
    """
    settings = {**own, **overrides}
    arguments = [each.get("model_args", {}) for each in (own, overrides)]
    if all(isinstance(each, Mapping) for each in arguments):
        settings["model_args"] = {**arguments[0], **arguments[1]}
    names = ["warmup_epochs"]
    if settings.get("schedule", "cosine") != "cosine":
        names.append("decay_epochs")
    before = own.get("epochs", TrainConfig.model_fields["epochs"].default)
    now = settings.get("epochs", before)
    for name in names:
        long = own.get(name, 0)
        if name in overrides or not all(isinstance(each, Real) for each in (long, now, before)):
            continue
        if 0 < now <= long < before:
            settings[name] = long * now / before
            warnings.warn(
                f"{source} has {name}={long:g} for {before} epochs: shortened in proportion to"
                f" {settings[name]:.2g} for epochs={now}.",
                stacklevel=4,
            )
    return settings


def scale_of_rate(optimizer: str, ratio: float) -> float:
    """The factor on a learning rate for `ratio` times as many images in a step."""
    return ratio ** DEFAULTS[optimizer].power


class TrainConfig(BaseModel):
    """Everything that determines a run; bad values raise a ValueError that names the field.

    The command line makes its options of these fields.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str | None = _setting(NETWORK, "Name and version of the recipe behind it.", None)
    model: str = _setting(NETWORK, "Name of the network, see keras-archs models.")
    model_args: dict[str, Any] = _setting(NETWORK, "The network's own arguments.", {})
    dataset: str = _setting(
        DATA,
        "fashion_mnist_small or another TFDS name, image_folder:PATH with one folder a class, or"
        " tfrecord:PATTERN.",
    )
    data_dir: str | Path | None = _setting(DATA, "Where TFDS keeps its datasets.", None)
    image_size: int | None = _setting(
        DATA,
        "Height and width in pixels. If not given: from rho, else the size of the dataset's images"
        " rounded up to a multiple of 32, from 64 to the network's default.",
        None,
        ge=1,
    )
    progressive_from: int | None = _setting(
        DATA,
        "Size of the first epochs' images; it grows in four stages, by multiples of 32, up to"
        " image_size, and RandAugment's strength with it.",
        None,
        ge=32,
    )
    skip_corrupt: bool = _setting(DATA, "Leave out images that cannot be decoded.", False)
    flip: bool = _setting(AUGMENTATION, "Mirror half of the training images.", True)
    crop: Crop = _setting(
        AUGMENTATION,
        "shift moves training images by up to a sixteenth of their side; resized takes a part of"
        " random size and aspect, as is usual for photographs; none takes all of them.",
        "shift",
    )
    crop_scale: float = _setting(
        AUGMENTATION,
        "Smallest share of an image's area that crop=resized takes.",
        0.08,
        gt=0,
        le=1,
    )
    test_crop: float | None = _setting(
        AUGMENTATION,
        "Evaluate the centred square of this share of the shorter side. If not given: 0.875 with"
        " crop=resized, else the whole image.",
        None,
        gt=0,
        le=1,
    )
    augment: Policy = _setting(AUGMENTATION, "none, randaugment or trivialaugment (wide).", "none")
    randaugment_layers: int = _setting(
        AUGMENTATION, "RandAugment's operations for an image, N in its paper.", 2, ge=1
    )
    randaugment_magnitude: float = _setting(
        AUGMENTATION, "RandAugment's strength, M in its paper.", 9.0, ge=0, le=10
    )
    random_erasing: float = _setting(
        AUGMENTATION, "Probability that noise covers a rectangle of an image.", 0.0, ge=0, le=1
    )
    mixup: float = _setting(
        AUGMENTATION,
        "Alpha of MixUp, which blends images and labels; 0 is off. With cutmix, each batch takes"
        " one of both.",
        0.0,
        ge=0,
    )
    cutmix: float = _setting(
        AUGMENTATION, "Alpha of CutMix, which pastes a part of another image; 0 is off.", 0.0, ge=0
    )
    repeated_augmentation: int = _setting(
        AUGMENTATION,
        "Copies of each image in a batch, each varied by itself. An epoch keeps its steps and sees"
        " that many times fewer images, others each time.",
        1,
        ge=1,
    )
    epochs: int = _setting(OPTIMISATION, "Passes over the training images.", 5, ge=1)
    batch_size: int = _setting(OPTIMISATION, "Images in a step.", 64, ge=1)
    accumulate: int = _setting(
        OPTIMISATION, "Batches whose gradients are averaged for one step of the optimizer.", 1, ge=1
    )
    optimizer: Literal["adamw", "sgd", "rmsprop", "lamb"] = _setting(
        OPTIMISATION,
        "adamw; sgd with Nesterov momentum 0.9; rmsprop as TensorFlow's EfficientNet has it; lamb.",
        "adamw",
    )
    learning_rate: float = _setting(
        OPTIMISATION,
        "Peak learning rate. If not given, for 256 images in a step of the optimizer: 0.005"
        " (adamw), 0.1 (sgd), 0.016 (rmsprop) or 0.0018 (lamb); for others with the square root"
        " (adamw, lamb) or in proportion (sgd, rmsprop).",
        default_factory=lambda given: (
            DEFAULTS[given["optimizer"]].learning_rate
            * scale_of_rate(given["optimizer"], given["batch_size"] * given["accumulate"] / 256)
        ),
        gt=0,
    )
    schedule: Literal["cosine", "step", "exponential"] = _setting(
        OPTIMISATION,
        "How the learning rate falls: as a cosine to the last step; or by decay_rate for each"
        " decay_epochs, at once (step) or bit by bit (exponential).",
        "cosine",
    )
    decay_epochs: float = _setting(
        OPTIMISATION, "Epochs to one decay_rate, in step and exponential.", 30, gt=0
    )
    decay_rate: float = _setting(
        OPTIMISATION, "Factor on the learning rate, in step and exponential.", 0.1, gt=0, le=1
    )
    final_learning_rate: float = _setting(
        OPTIMISATION, "The learning rate does not fall below it.", 0.0, ge=0
    )
    warmup_epochs: float = _setting(
        OPTIMISATION, "Linear warm-up in front of the schedule.", 0.5, ge=0
    )
    weight_decay: float = _setting(
        OPTIMISATION,
        "Share of the learning rate by which weights shrink in a step (rmsprop: as gradient of an"
        " L2 loss; lamb: as a part of the step that is scaled); biases and normalisation do not."
        " If not given: 0.05 (adamw), 0.0005 (sgd), 0.00001 (rmsprop) or 0.02 (lamb).",
        default_factory=lambda given: DEFAULTS[given["optimizer"]].weight_decay,
        ge=0,
    )
    clip_norm: float | None = _setting(
        OPTIMISATION, "Largest norm of all gradients together.", None, gt=0
    )
    loss: Literal["crossentropy", "binary"] = _setting(
        OPTIMISATION,
        "crossentropy; or binary, of each class by itself, with a network that ends in sigmoids"
        " and labels of 1 for each class that is mixed in (ResNet strikes back).",
        "crossentropy",
    )
    label_smoothing: float = _setting(
        OPTIMISATION, "Share of each label that is spread over all classes.", 0.1, ge=0, lt=1
    )
    ema: float | None = _setting(
        OPTIMISATION,
        "Decay of moving averages of weights and batch norm statistics, such as 0.9999; they are"
        " what is validated and saved.",
        None,
        gt=0,
        lt=1,
    )
    batch_norm_momentum: float = _setting(
        OPTIMISATION,
        "Momentum of the moving statistics. Keras' own 0.99 needs thousands of steps to forget its"
        " start.",
        0.9,
        ge=0,
        lt=1,
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = _setting(
        OPTIMISATION,
        "float32, mixed_float16 or mixed_bfloat16; the classifier stays in float32.",
        "float32",
    )
    seed: int = _setting(OPTIMISATION, "Seed of weights, order, dropout and augmentation.", 0, ge=0)
    deterministic: bool = _setting(
        OPTIMISATION,
        "Compute the same to the last bit each time, on the same machine and versions; slower.",
        False,
    )
    init: str | None = _setting(
        FINE_TUNING,
        "Weights to start from: imagenet, a run folder, a .keras file or a file of weights. The"
        " classifier is a new one where the classes differ.",
        None,
    )
    freeze: int | str | None = _setting(
        FINE_TUNING,
        "Last stage that is not trained, as a level (see keras_archs.feature_info) or a layer.",
        None,
    )
    freeze_batch_norm: bool = _setting(
        FINE_TUNING, "Keep all batch norms as they are, their statistics, too.", False
    )
    layer_decay: float | None = _setting(
        FINE_TUNING,
        "Factor on the learning rate from one stage to the one in front of it.",
        None,
        gt=0,
        le=1,
    )
    qat: bool = _setting(
        FINE_TUNING,
        "Train for int8: the network computes as its TFLite file will, batch norms folded. For a"
        " trained one, of init or --resume-from, a few epochs at a small learning rate.",
        False,
    )
    teacher: str | None = _setting(
        DISTILLATION,
        "Network whose scores are learned from: a run folder, a .keras file or NAME:WEIGHTS, such"
        " as resnet50:imagenet. One of a .keras file without preprocessing gets the images as the"
        " network itself does.",
        None,
    )
    distill_weight: float = _setting(
        DISTILLATION, "Share of the teacher in the loss.", 0.5, gt=0, le=1
    )
    distill_temperature: float = _setting(DISTILLATION, "Divisor of the logits of both.", 4.0, gt=0)
    strategy: Literal["none", "mirrored", "multiworker", "tpu", "auto"] = _setting(
        DEVICES,
        "none: one device. mirrored: all GPUs of this machine. multiworker: the processes that"
        " TF_CONFIG or SLURM names. tpu. auto: whichever of these is found. batch_size is that of"
        " all together.",
        "none",
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

    def __init__(self, *values: Any, **settings: Any) -> None:
        if values:
            raise InputError(
                f"TrainConfig takes its settings by name, got {shown(values[0])}. Call it as"
                " training.TrainConfig(model='mobilenet', dataset='fashion_mnist_small')."
            )
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise InputError(one_line(error, type(self).model_fields)) from error

    @property
    def is_pretrained(self) -> bool:
        """Whether the run has weights to start from."""
        return self.init is not None or self.model_args.get("weights") is not None

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(**{f.name: getattr(self, f.name) for f in fields(Augmentation)})

    def differences(self, other: "TrainConfig") -> list[str]:
        """The settings that make another run of it, as `"name: mine, other's there"`."""
        return [
            f"{name}: {mine!r} given, {theirs!r} in the run"
            for name in type(self).model_fields
            if name not in _FREE
            and (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]

    @field_validator("*", mode="before")
    @classmethod
    def _none(cls, value: Any, info: ValidationInfo) -> Any:
        """None may come as text, from the command line, over the value of a run or a recipe."""
        allowed = get_args(cls.model_fields[info.field_name or ""].annotation)
        text = isinstance(value, str)  # an array would be compared value by value
        return None if text and value == "none" and NoneType in allowed else value

    @field_validator("freeze", mode="before")
    @classmethod
    def _level(cls, value: Any) -> Any:
        """A level may come as text, from the command line."""
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("model")
    @classmethod
    def _as_listed(cls, value: str) -> str:
        """Any spelling of the name is stored as the one of `list_models`."""
        return find(value).name

    @field_validator("model_args")
    @classmethod
    def _can_be_stored(cls, value: dict[str, Any]) -> dict[str, Any]:
        """As JSON, from which the levels of `attention` come back as text."""
        value = {name: plain(argument) for name, argument in value.items()}
        if isinstance(blocks := value.get("attention"), dict):
            levels = map(plain, blocks)
            value["attention"] = {
                int(level) if isinstance(level, str) and level.isdecimal() else level: block
                for level, block in zip(levels, blocks.values(), strict=True)
            }
        for name, argument in value.items():
            try:
                to_jsonable_python(argument)
            except PydanticSerializationError:
                raise InputError(
                    f"model_args: {name}={argument!r} cannot be stored with the run; allowed in"
                    " training are names, numbers, lists and dicts."
                ) from None
        return value

    @model_validator(mode="after")
    def _fits(self) -> "TrainConfig":
        check_arguments(self.model, self.model_args)
        for argument in self.model_args.keys() & _NOT_MODEL_ARGS.keys():
            instead = _NOT_MODEL_ARGS[argument]
            hint = f"; it follows from {instead}" if instead else ""
            raise InputError(f"model_args may not set {argument!r} in training{hint}.")
        if self.final_learning_rate > self.learning_rate:
            raise InputError(
                f"final_learning_rate={self.final_learning_rate} must not be above"
                f" learning_rate={self.learning_rate}."
            )
        if self.repeated_augmentation >= max(2, self.batch_size):
            raise InputError(
                f"repeated_augmentation must be less than batch_size={self.batch_size}, got"
                f" {self.repeated_augmentation}."
            )
        if self.teacher is not None and self.loss == "binary":
            raise InputError("teacher goes with loss='crossentropy', got loss='binary'.")
        if self.init is not None and self.model_args.get("weights") is not None:
            raise InputError("init and model_args' weights exclude each other; give one of them.")
        if self.qat:
            self._check_qat()
        if self.warmup_epochs >= self.epochs:
            raise InputError(
                f"warmup_epochs must be less than epochs={self.epochs}, got {self.warmup_epochs}."
            )
        return self

    def _check_qat(self) -> None:
        if not self.is_pretrained:
            raise InputError(
                "qat goes on with a trained network: give init, or --resume-from with its run."
            )
        for name, allowed in {
            "precision": "float32",
            "progressive_from": None,
            "layer_decay": None,
        }.items():
            if (given := getattr(self, name)) != allowed:
                raise InputError(f"qat goes with {name}={allowed!r}, got {given!r}.")


_FREE = {"recipe", "data_dir", "checkpoint_steps", "on_nan", "track"}
"""Settings that change nothing of what a run computes."""


def one_line(error: ValidationError, fields: Iterable[str]) -> str:
    """The first of the errors that pydantic has found, with the nearest of the fields' names."""
    first = error.errors()[0]
    if isinstance(cause := first.get("ctx", {}).get("error"), InputError):
        return str(cause)
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"There is no setting {field!r}.{did_you_mean(field, fields)}"
    if first["type"] == "missing":
        return f"The setting {field!r} is missing."
    message = first["msg"].removeprefix("Input ")
    return f"{field} {message}, got {shown(first['input'])}."
