"""Families and their builders: who they are, how to find one by name, how to build it."""

import fnmatch
import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, get_type_hints

import keras

from .arguments import DEFAULTS, Shared, check_shared
from .errors import InputError, did_you_mean, shown
from .preprocessing import Preprocessing


class Named(Protocol):
    """A row of a family's table of variants."""

    @property
    def name(self) -> str: ...


P = ParamSpec("P")
Row = TypeVar("Row", bound=Named)
Builder = Callable[..., keras.Model]

_SHARED_ARGUMENTS = """

Args:
    include_top: whether to end in the classifier of `classes` units.
    weights: `None` (random initialisation), `"imagenet"` (where keras.applications publishes
        weights), or the path of a `.weights.h5`, `.keras` or legacy `.h5` file.
    input_tensor: a Keras tensor to build on, in place of a new input.
    input_shape: `(height, width, channels)`, at least {min_size} pixels each way. With the top it
        defaults to `({size}, {size}, 3)`; without, height and width may be None, the default.
    pooling: without the top, `None` for the last feature map `(batch, height, width, channels)`,
        `"avg"` or `"max"` for its global pooling `(batch, channels)`.
    classes: number of classes of the top.
    classifier_activation: activation of the top; `None` gives logits. The top computes in float32
        under every precision policy.
    name: name of the model, and of nothing else.
    include_preprocessing: whether the model begins with its family's `preprocess_input`, so that
        it takes pixels of 0..255.
    attention: blocks to insert: `"se"`, `"eca"`, `"cbam"`, `"gc"`, `"non_local"` or a layer, after
        the last map of every resolution, or a dict from levels of `feature_info` to these. They are
        inserted after `"imagenet"` weights are loaded, and before those of a file.{own}

Returns:
    A functional `keras.Model`.

Raises:
    ValueError: an argument is out of range, contradicts another, or the weights do not fit.

Source: {paper}
"""


@dataclass(frozen=True)
class Family:
    """What the networks of one paper share.

    Attributes:
        name: name of the family, lower case.
        paper: authors, year and arXiv number.
        preprocessing: what the published weights expect of their input.
        arguments: docstring lines of the knobs that this family adds.
        min_size: smallest height and width in pixels.
        size: default height and width in pixels.
    """

    name: str
    paper: str
    preprocessing: Preprocessing
    arguments: str = ""
    min_size: int = 32
    size: int = 224

    def register(self, builder: Callable[P, keras.Model]) -> Callable[P, keras.Model]:
        """Makes a builder public: known by its lower-case name, with full signature and docstring.

        `builder` spells out its own arguments and takes those that all share as `**shared`, which
        are checked before. It may name some of the shared ones among its own, to set their order.
        Its own keyword-only arguments come last.

        Type checkers take the shared arguments by keyword only. Python takes them by position as
        well, in the order of keras.applications.
        """

        unchecked: Builder = builder  # its arguments are checked when it is called

        @functools.wraps(builder)
        def build(*args: Any, **kwargs: Any) -> keras.Model:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
            shared: Any = {name: given.pop(name) for name in DEFAULTS}
            return unchecked(**given, **check_shared(shared, self.min_size, signature.parameters))

        signature = _signature(builder)
        build.__signature__ = signature  # type: ignore[attr-defined]
        own = "".join(f"\n    {line}" for line in self.arguments.strip().splitlines())
        shared = _SHARED_ARGUMENTS.format(
            min_size=self.min_size, size=self.size, own=own, paper=self.paper
        )
        build.__doc__ = inspect.cleandoc(builder.__doc__ or "") + shared
        _MODELS[build.__name__.lower()] = Entry(self, build)
        return build

    def variant(
        self, builder: Callable[Concatenate[Row, P], keras.Model], row: Row
    ) -> Callable[P, keras.Model]:
        """The public function of one row of the family's table: `builder` with `row` filled in."""
        # mypy: a partial has no __name__ of its own, but takes one.
        build: Any = functools.partial(builder, row)
        build.__name__ = build.__qualname__ = row.name
        build.__module__ = builder.__module__
        build.__doc__ = f"{row.name}. {inspect.cleandoc(builder.__doc__ or '')}"
        return self.register(build)


def _signature(builder: Builder) -> inspect.Signature:
    own = [p for p in inspect.signature(builder).parameters.values() if p.kind != p.VAR_KEYWORD]
    positional = [p for p in own if p.kind != p.KEYWORD_ONLY]
    keywords = [p for p in own if p.kind == p.KEYWORD_ONLY]
    types = get_type_hints(Shared)
    shared = {
        name: inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=types[name]
        )
        for name, default in DEFAULTS.items()
        if name not in {p.name for p in own}
    }
    return inspect.Signature(
        [*positional, *shared.values(), *keywords], return_annotation=keras.Model
    )


@dataclass(frozen=True)
class Entry:
    """A registered builder and its family."""

    family: Family
    builder: Builder

    @property
    def name(self) -> str:
        """The one that `list_models` gives."""
        return self.builder.__name__.lower()


_MODELS: dict[str, Entry] = {}

# Names in the papers, timm and torchvision that differ from ours by more than separators. Numbers
# at their ends say what these networks are without arguments as well.
_SYNONYMS = {
    "mobilenetv1": "mobilenet",
    "mobilenetv1100": "mobilenet",
    "mobilenetv2100": "mobilenetv2",
    "mobilenetv3large100": "mobilenetv3large",
    "mobilenetv3small100": "mobilenetv3small",
    "googlenet": "inceptionv1",
    "bninception": "inceptionv2",
    "wideresnet502": "wideresnet50",
    "wideresnet1012": "wideresnet101",
    "resnext5032x4d": "resnext50",
    "resnext10132x4d": "resnext101",
    "seresnext5032x4d": "seresnext50",
    "seresnext10132x4d": "seresnext101",
    "resnetv218": "resnet18v2",
    "resnetv234": "resnet34v2",
    "resnetv250": "resnet50v2",
    "resnetv2101": "resnet101v2",
    "resnetv2152": "resnet152v2",
}


def _key(name: str) -> str:
    """A name, or a pattern of names, in lower case and without separators."""
    return re.sub(r"(\[[^]]*])|[-_. ]", r"\1", name.lower())  # a-c in brackets is a range


def find(name: str) -> Entry:
    """The entry of a builder by its name.

    Neither case nor separators matter, and timm's and torchvision's names are understood:
    `"resnet50"`, `"ResNet50"`, `"resnet-50"`, `"efficientnet_b0"`, `"tf_efficientnetv2_s"`.

    Raises:
        ValueError: no builder has this name; the message suggests the nearest ones.
    """
    if not isinstance(name, str):
        raise InputError(f"model must be a name such as 'resnet50', got {shown(name)}.")
    key = _key(name).removeprefix("tf")
    entry = _MODELS.get(_SYNONYMS.get(key, key))
    if entry is None:
        raise InputError(
            f"There is no model {name!r}.{did_you_mean(key, _MODELS)}"
            " keras_archs.list_models() lists them all."
        )
    return entry


def find_family(name: str) -> Family:
    """A family by its own name or by the name of one of its models.

    Raises:
        ValueError: neither is known.
    """
    for entry in _MODELS.values():
        if isinstance(name, str) and _key(entry.family.name) == _key(name):
            return entry.family
    return find(name).family


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models that match a shell pattern such as `"resnet*"`, sorted.

    The names are the builders' in lower case. Neither case nor separators of the pattern matter.

    Raises:
        ValueError: the pattern is not a string.
    """
    if not isinstance(pattern, str):
        raise InputError(f"pattern must be a string such as 'resnet*', got {shown(pattern)}.")
    natural = lambda name: (name.rstrip("0123456789"), len(name), name)  # noqa: E731
    return sorted(fnmatch.filter(_MODELS, _key(pattern)), key=natural)


def check_arguments(name: str, arguments: dict[str, Any]) -> None:
    """Raises a ValueError if the model `name` lacks one of the arguments; suggests the nearest."""
    known = list(inspect.signature(find(name).builder).parameters)
    for argument in arguments:
        if argument not in known:
            raise InputError(
                f"{name} has no argument {argument!r}.{did_you_mean(argument, known)}"
                f" It takes: {', '.join(known)}."
            )


def create_model(name: str, /, **arguments: Any) -> keras.Model:
    """Builds a model by name: `create_model("mobilenet", alpha=0.5, classes=10)`.

    Args:
        name: one of `list_models()`, in any case and spelling: `"mobilenet_v2"`, `"resnet-50"`.
        **arguments: the builder's own arguments.

    Raises:
        ValueError: the name or an argument is unknown, or the builder refuses its value.
    """
    check_arguments(name, arguments)
    return find(name).builder(**arguments)


def preprocess_input(x: Any, model: str) -> Any:
    """Maps pixels of 0..255 to what the published weights of a family expect.

    `keras_archs.mobilenet.preprocess_input(x)` is `keras_archs.preprocess_input(x, "mobilenet")`.

    Args:
        x: RGB images: an array or tensor `(..., height, width, channels)` of any number type, which
            is not changed, a PIL image, or a list of arrays or PIL images of one size.
        model: name of a family or of one of its models.

    Returns:
        A new array or tensor of the same shape, in its own floating type, else in `floatx`. A PIL
        image becomes `(height, width, 3)`; the first axis of a list is that of the images.

    Raises:
        ValueError: the name is unknown, `x` does not hold images, or their channels are neither 1
            nor those of the family's means.
    """
    return find_family(model).preprocessing(x)
