"""The settings of a training run, checked on creation."""

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

from ..data.augment.augmentation import Augmentation, Crop, Policy

# Arguments of a network that training sets, and the setting that determines each.
_NOT_MODEL_ARGS = {
    "input_shape": "image_size",
    "input_tensor": "image_size",
    "classes": "dataset",
    "include_top": None,
    "pooling": None,
    "classifier_activation": None,
    "include_preprocessing": None,  # training preprocesses the batches
}


NETWORK, DATA, AUGMENTATION = "Network", "Data", "Augmentation"
OPTIMISATION, SAFETY = "Optimisation", "Safety"
FINE_TUNING, DISTILLATION = "Fine-tuning", "Distillation"
DEVICES, MONITORING = "Devices", "Monitoring"


def _setting(panel: str, description: str, *default: Any, **rest: Any) -> Any:
    """A field with its description and its panel in the command line's help."""
    return Field(*default, description=description, json_schema_extra={"panel": panel}, **rest)


class OptimizerDefaults(NamedTuple):
    """Defaults of an optimizer.

    Attributes:
        learning_rate: for 256 images in a step.
        power: the rate scales with the number of images in a step to this power.
        weight_decay: of weights.
    """

    learning_rate: float
    power: float
    weight_decay: float


DEFAULTS = {
    "adamw": OptimizerDefaults(0.005, 0.5, 0.05),
    "sgd": OptimizerDefaults(0.1, 1, 0.0005),
    "rmsprop": OptimizerDefaults(0.016, 1, 1e-5),  # 0.256 for 4,096: EfficientNet
    "lamb": OptimizerDefaults(0.0018, 0.5, 0.02),  # 0.005 for 2,048: ResNet strikes back
}
OPTIMIZER_SETTINGS = {"learning_rate", "final_learning_rate", "weight_decay"}
"""Settings that depend on the optimizer and do not carry over to another one."""


def override(base: Mapping[str, Any], overrides: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Merges the settings of a recipe or run with overrides. `model_args` are merged by name.

    If the overriding `epochs` are too few for the warm-up or for `decay_epochs`, these settings are
    shortened in proportion, with a warning.

    Args:
        base: settings of the recipe or run.
        overrides: settings that replace them.
        source: name of the recipe or run in the warning.
    """
    settings = {**base, **overrides}
    arguments = [mapping.get("model_args", {}) for mapping in (base, overrides)]
    if all(isinstance(mapping, Mapping) for mapping in arguments):
        settings["model_args"] = {**arguments[0], **arguments[1]}
    names = ["warmup_epochs"]
    if settings.get("schedule", "cosine") != "cosine":
        names.append("decay_epochs")
    base_epochs = base.get("epochs", TrainConfig.model_fields["epochs"].default)
    epochs = settings.get("epochs", base_epochs)
    for name in names:
        length = base.get(name, 0)
        numbers = (length, epochs, base_epochs)
        if name in overrides or not all(isinstance(number, Real) for number in numbers):
            continue
        if 0 < epochs <= length < base_epochs:
            settings[name] = length * epochs / base_epochs
            warnings.warn(
                f"{source} has {name}={length:g} for {base_epochs} epochs: shortened in proportion"
                f" to {settings[name]:.2g} for epochs={epochs}.",
                stacklevel=4,
            )
    return settings


def learning_rate_factor(optimizer: str, ratio: float) -> float:
    """The factor on a learning rate for `ratio` times as many images in a step."""
    return ratio ** DEFAULTS[optimizer].power


class TrainConfig(BaseModel):
    """All settings of a run. An invalid value raises a ValueError that names the field.

    The command line derives its options from these fields.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str | None = _setting(NETWORK, "Name and version of the recipe used.", None)
    model: str = _setting(NETWORK, "Name of the network, see keras-archs models.")
    model_args: dict[str, Any] = _setting(NETWORK, "Arguments of the network.", {})
    dataset: str = _setting(
        DATA,
        "fashion_mnist_small or another TFDS name, image_folder:PATH with one folder per class,"
        " tfrecord:PATTERN, or tfds_folder:PATH.",
    )
    data_dir: str | Path | None = _setting(DATA, "Folder of the TFDS datasets.", None)
    image_size: int | None = _setting(
        DATA,
        "Height and width in pixels. Default: MobileNet's rho times 224, if rho is set; for a"
        " dataset with one image size, that size, rounded up to a multiple of 32, at least 64 and"
        " at most the network's default; otherwise the network's default.",
        None,
        ge=1,
    )
    progressive_from: int | None = _setting(
        DATA,
        "Image size of the first epochs. The size grows to image_size in four stages, by multiples"
        " of 32. RandAugment's strength grows with the size.",
        None,
        ge=32,
    )
    skip_corrupt: bool = _setting(DATA, "Skip images that cannot be decoded.", False)
    flip: bool = _setting(AUGMENTATION, "Mirror half of the training images.", True)
    crop: Crop = _setting(
        AUGMENTATION,
        "Crop of training images. shift: move the image by up to a sixteenth of its side. resized:"
        " a window of random size and aspect, as usual for photographs. none: the whole image.",
        "shift",
    )
    crop_scale: float = _setting(
        AUGMENTATION,
        "Smallest share of an image's area for crop=resized.",
        0.08,
        gt=0,
        le=1,
    )
    test_crop: float | None = _setting(
        AUGMENTATION,
        "Side of the centred square crop for evaluation, as a share of the shorter side. If not"
        " given: 0.875 with crop=resized, otherwise the whole image.",
        None,
        gt=0,
        le=1,
    )
    augment: Policy = _setting(
        AUGMENTATION,
        "Augmentation policy: none, randaugment or trivialaugment (TrivialAugmentWide).",
        "none",
    )
    randaugment_layers: int = _setting(
        AUGMENTATION, "Number of RandAugment operations per image (N in the paper).", 2, ge=1
    )
    randaugment_magnitude: float = _setting(
        AUGMENTATION, "Magnitude of RandAugment (M in the paper).", 9.0, ge=0, le=10
    )
    random_erasing: float = _setting(
        AUGMENTATION, "Probability that noise covers a rectangle of an image.", 0.0, ge=0, le=1
    )
    mixup: float = _setting(
        AUGMENTATION,
        "Alpha of MixUp, which blends images and labels; 0: off. With both mixup and cutmix, each"
        " batch uses one of them.",
        0.0,
        ge=0,
    )
    cutmix: float = _setting(
        AUGMENTATION, "Alpha of CutMix, which pastes a part of another image; 0: off.", 0.0, ge=0
    )
    repeated_augmentation: int = _setting(
        AUGMENTATION,
        "Copies of each image in a batch, each augmented separately. The number of steps in an"
        " epoch stays the same, so an epoch uses only a part of the images. The part changes from"
        " epoch to epoch.",
        1,
        ge=1,
    )
    epochs: int = _setting(OPTIMISATION, "Passes over the training images.", 5, ge=1)
    batch_size: int = _setting(
        OPTIMISATION,
        "Images in a batch, over all devices. An optimizer step uses batch_size times accumulate"
        " images.",
        64,
        ge=1,
    )
    accumulate: int = _setting(
        OPTIMISATION, "Batches whose gradients are averaged for one optimizer step.", 1, ge=1
    )
    optimizer: Literal["adamw", "sgd", "rmsprop", "lamb"] = _setting(
        OPTIMISATION,
        "adamw; sgd with Nesterov momentum 0.9; rmsprop as in TensorFlow's EfficientNet; lamb.",
        "adamw",
    )
    learning_rate: float = _setting(
        OPTIMISATION,
        "Peak learning rate. Default for 256 images in an optimizer step: 0.005 (adamw), 0.1 (sgd),"
        " 0.016 (rmsprop) or 0.0018 (lamb). For other numbers, the default scales with the square"
        " root (adamw, lamb) or linearly (sgd, rmsprop).",
        default_factory=lambda values: (
            DEFAULTS[values["optimizer"]].learning_rate
            * learning_rate_factor(
                values["optimizer"], values["batch_size"] * values["accumulate"] / 256
            )
        ),
        gt=0,
    )
    schedule: Literal["cosine", "step", "exponential"] = _setting(
        OPTIMISATION,
        "Decay of the learning rate. cosine: to the last step. step: by decay_rate after every"
        " decay_epochs. exponential: by decay_rate over decay_epochs, a little in each step.",
        "cosine",
    )
    decay_epochs: float = _setting(
        OPTIMISATION,
        "Epochs in which the learning rate decays by decay_rate, for step and exponential.",
        30,
        gt=0,
    )
    decay_rate: float = _setting(
        OPTIMISATION, "Factor on the learning rate, for step and exponential.", 0.1, gt=0, le=1
    )
    final_learning_rate: float = _setting(
        OPTIMISATION, "Lower limit of the learning rate.", 0.0, ge=0
    )
    warmup_epochs: float = _setting(
        OPTIMISATION, "Epochs of linear warm-up before the schedule.", 0.5, ge=0
    )
    weight_decay: float = _setting(
        OPTIMISATION,
        "Weight decay. adamw and sgd subtract learning_rate * weight_decay * weight in each step;"
        " rmsprop adds an L2 loss; lamb includes it in the trust ratio. It does not apply to biases"
        " and normalisation. Default: 0.05"
        " (adamw), 0.0005 (sgd), 0.00001 (rmsprop) or 0.02 (lamb).",
        default_factory=lambda values: DEFAULTS[values["optimizer"]].weight_decay,
        ge=0,
    )
    clip_norm: float | None = _setting(
        OPTIMISATION, "Clip gradients to this global norm.", None, gt=0
    )
    loss: Literal["crossentropy", "binary"] = _setting(
        OPTIMISATION,
        "crossentropy; or binary: one binary crossentropy per class, with sigmoid outputs and label"
        " 1 for each mixed class (ResNet strikes back).",
        "crossentropy",
    )
    label_smoothing: float = _setting(
        OPTIMISATION, "Share of each label that is spread over all classes.", 0.1, ge=0, lt=1
    )
    ema: float | None = _setting(
        OPTIMISATION,
        "Decay of the moving averages of weights and batch norm statistics, for example 0.9999. The"
        " averages are validated and saved.",
        None,
        gt=0,
        lt=1,
    )
    batch_norm_momentum: float = _setting(
        OPTIMISATION,
        "Momentum of the batch norm statistics. With Keras' default of 0.99, the initial values"
        " persist for thousands of steps.",
        0.9,
        ge=0,
        lt=1,
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = _setting(
        OPTIMISATION,
        "float32, mixed_float16 or mixed_bfloat16. The classifier stays in float32.",
        "float32",
    )
    seed: int = _setting(OPTIMISATION, "Seed of weights, order, dropout and augmentation.", 0, ge=0)
    deterministic: bool = _setting(
        OPTIMISATION,
        "Make runs bit-identical on the same machine with the same versions; slower.",
        False,
    )
    init: str | None = _setting(
        FINE_TUNING,
        "Initial weights: imagenet, a run folder, a .keras file or a weights file. If the classes"
        " differ, the classifier gets random weights.",
        None,
    )
    freeze: int | str | None = _setting(
        FINE_TUNING,
        "Last stage to freeze, as a level (see keras_archs.feature_info) or a layer's name.",
        None,
    )
    freeze_batch_norm: bool = _setting(
        FINE_TUNING, "Freeze all batch norms, including their statistics.", False
    )
    layer_decay: float | None = _setting(
        FINE_TUNING,
        "Layer-wise learning rate decay: the learning rate of a stage is that of the next stage,"
        " towards the classifier, times this factor.",
        None,
        gt=0,
        le=1,
    )
    qat: bool = _setting(
        FINE_TUNING,
        "Quantisation-aware training: simulates the rounding of int8 and folds batch norms. Use it"
        " for a few epochs on a trained network (init or --resume-from), at a small learning rate.",
        False,
    )
    teacher: str | None = _setting(
        DISTILLATION,
        "Teacher network: a run folder, a .keras file or NAME:WEIGHTS, for example"
        " resnet50:imagenet. If a .keras file has no preprocessing, the teacher gets the"
        " preprocessed images of the student.",
        None,
    )
    distill_weight: float = _setting(
        DISTILLATION, "Weight of the teacher in the loss.", 0.5, gt=0, le=1
    )
    distill_temperature: float = _setting(
        DISTILLATION, "Temperature of the softmax of student and teacher.", 4.0, gt=0
    )
    strategy: Literal["none", "mirrored", "multiworker", "tpu", "auto"] = _setting(
        DEVICES,
        "none: one device. mirrored: all GPUs of this machine. multiworker: the processes in"
        " TF_CONFIG or SLURM. tpu: a TPU. auto: detect which of these is available. batch_size is"
        " the total over all devices.",
        "none",
    )
    checkpoint_steps: int | None = _setting(
        SAFETY,
        "Steps between checkpoints, in addition to one at the end of each epoch. If not given:"
        " every five minutes.",
        None,
        ge=1,
    )
    on_nan: Literal["stop", "rollback"] = _setting(
        SAFETY,
        "Action if the loss is not finite. stop: end the run. rollback: resume from the last"
        " checkpoint, and end the run if the loss of the same step is not finite again.",
        "stop",
    )
    track: Literal["none", "wandb", "mlflow"] = _setting(
        MONITORING,
        "Also send metrics and report to wandb (Weights & Biases) or mlflow, which use their own"
        " settings and environment. TensorBoard files are always written.",
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
        """Whether the run starts from given weights."""
        return self.init is not None or self.model_args.get("weights") is not None

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(**{f.name: getattr(self, f.name) for f in fields(Augmentation)})

    def differences(self, other: "TrainConfig") -> list[str]:
        """The settings that differ and change the result, as `"name: a given, b in the run"`."""
        return [
            f"{name}: {value!r} given, {run_value!r} in the run"
            for name in type(self).model_fields
            if name not in _WITHOUT_EFFECT
            and (value := getattr(self, name)) != (run_value := getattr(other, name))
        ]

    @field_validator("*", mode="before")
    @classmethod
    def _none(cls, value: Any, info: ValidationInfo) -> Any:
        """Parses "none" from the command line, which resets a setting of a run or a recipe."""
        allowed = get_args(cls.model_fields[info.field_name or ""].annotation)
        text = isinstance(value, str)  # an array would be compared value by value
        return None if text and value == "none" and NoneType in allowed else value

    @field_validator("freeze", mode="before")
    @classmethod
    def _level(cls, value: Any) -> Any:
        """Parses a level from the command line."""
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("model")
    @classmethod
    def _canonical_name(cls, value: str) -> str:
        """Replaces any spelling of a network's name by the spelling in `list_models`."""
        return find(value).name

    @field_validator("model_args")
    @classmethod
    def _storable(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Requires arguments that JSON can store, and parses the levels of `attention`.

        JSON turns the levels into text.
        """
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
                    f"model_args: {name} must be a string, number, list or dict, because it is"
                    f" saved with the run, got {argument!r}."
                ) from None
        return value

    @model_validator(mode="after")
    def _check_together(self) -> "TrainConfig":
        check_arguments(self.model, self.model_args)
        for argument in self.model_args.keys() & _NOT_MODEL_ARGS.keys():
            setting = _NOT_MODEL_ARGS[argument]
            reason = f"it follows from {setting}" if setting else "training sets it"
            raise InputError(f"model_args must not contain {argument!r}: {reason}.")
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
            raise InputError("teacher needs loss='crossentropy', got loss='binary'.")
        if self.init is not None and self.model_args.get("weights") is not None:
            raise InputError("init and weights in model_args exclude each other; give only one.")
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
                "qat=True needs a trained network: give init, or --resume-from with its run."
            )
        for name, allowed in {
            "precision": "float32",
            "progressive_from": None,
            "layer_decay": None,
        }.items():
            if (value := getattr(self, name)) != allowed:
                raise InputError(f"qat=True needs {name}={allowed!r}, got {value!r}.")


_WITHOUT_EFFECT = {"recipe", "data_dir", "checkpoint_steps", "on_nan", "track"}
"""Settings that do not change what a run computes."""


def one_line(error: ValidationError, fields: Iterable[str]) -> str:
    """Pydantic's first error in one line. For an unknown field, it suggests the nearest names."""
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
