"""Models of every build: nested, sequential, branched, with one score, without a top."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_archs
import tflite_export
from keras_archs.errors import InputError
from keras_archs.graph import inner_layers
from keras_archs.transforms.rematerialize import Rematerialized
from tests.keras_archs.helpers import images, randomize

SHAPE = (32, 32, 3)


def stages(x):
    for index, filters in enumerate((4, 8, 8), 1):
        x = layers.Conv2D(filters, 3, 2, "same", use_bias=False, name=f"conv{index}")(x)
        x = keras_archs.BatchNormalization(name=f"bn{index}")(x)
        x = keras_archs.Activation("relu", name=f"relu{index}")(x)
    return x


def head(x, classes=3, activation="softmax"):
    x = layers.Dropout(0.2, name="dropout")(layers.GlobalAveragePooling2D(name="pooling")(x))
    return layers.Dense(classes, activation=activation, name="scores")(x)


def backbone(pooling=False, name="backbone", shape=SHAPE):
    inputs = keras.Input(shape)
    x = stages(inputs)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x) if pooling else x
    return keras.Model(inputs, x, name=name)


def model_of(function, **options):
    inputs = keras.Input(SHAPE, name="image")
    return keras.Model(inputs, function(inputs), name="whole", **options)


def flat():
    return model_of(lambda x: head(stages(x)))


def nested():
    """As the guide on transfer learning of Keras has it."""
    return model_of(lambda x: head(backbone()(x, training=False)))


def nested_of_any_size():
    return model_of(lambda x: head(backbone(shape=(None, None, 3))(x)))


def nested_twice():
    return model_of(lambda x: head(model_of(backbone())(x)))


def nested_head():
    inputs = keras.Input((4, 4, 8))
    top = keras.Model(inputs, head(inputs), name="top")
    return model_of(lambda x: top(backbone()(x)))


def plain_layers(model):
    return [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def sequential():
    return keras.Sequential([keras.Input(SHAPE), *plain_layers(flat())], name="whole")


def sequential_without_input():
    model = keras.Sequential(plain_layers(flat()), name="whole")
    model.build((None, *SHAPE))
    return model


def sequential_with_backbone():
    return keras.Sequential([backbone(), *plain_layers(flat())[-3:]], name="whole")


def sequential_inside():
    inner = keras.Sequential(plain_layers(backbone()), name="backbone")
    return model_of(lambda x: head(inner(x)))


def compiled():
    model = nested()
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def inputs_and_outputs_in_lists():
    model = nested()
    return keras.Model([model.input], [model.output], name="whole")


SAME = [
    nested,
    nested_of_any_size,
    nested_twice,
    nested_head,
    sequential,
    sequential_without_input,
    sequential_with_backbone,
    sequential_inside,
    compiled,
    inputs_and_outputs_in_lists,
]
"""Models that compute what `flat` does."""


@pytest.fixture(params=SAME, ids=lambda make: make.__name__)
def pair(request):
    """A model of other models, and the flat one that computes the same."""
    model, twin = request.param(), flat()
    randomize(twin)
    model.set_weights(twin.get_weights())
    np.testing.assert_allclose(model(images(32)), twin(images(32)), atol=1e-6)
    return model, twin


def own_name(path):
    return path.rpartition("/")[2]


def test_levels_are_those_of_the_flat_model(pair):
    found, expected = map(keras_archs.feature_info, pair)
    facts = [
        [(f.level, own_name(f.name), f.stride, f.channels) for f in each]
        for each in (found, expected)
    ]
    assert facts[0] == facts[1]
    assert [f.name for f in expected] == ["relu1", "relu2", "relu3"]


def test_costs_are_those_of_the_flat_model(pair):
    found, expected = map(keras_archs.profile, pair)
    rows = [
        [(own_name(row.name), row.output_shape, row.parameters, row.multiply_adds) for row in rows]
        for rows in (found.layers, expected.layers)
    ]
    assert rows[0] == rows[1]
    assert found.parameters == pair[0].count_params()


def test_maps_are_those_of_the_flat_model(pair, tmp_path):
    model, twin = pair
    x = images(32)
    extractor = keras_archs.feature_extractor(model, (1, 3))
    maps = keras_archs.feature_extractor(twin, (1, 3))(x)
    assert [each.shape[1:] for each in maps] == [(16, 16, 4), (4, 4, 8)]
    extractor.save(tmp_path / "extractor.keras")
    for each in (extractor, keras.saving.load_model(tmp_path / "extractor.keras")):
        for mine, theirs in zip(each(x), maps, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-6)
    mine = {id(weight) for weight in model.weights}
    assert {id(weight) for weight in extractor.weights} <= mine


@pytest.mark.full
def test_pictures_are_those_of_the_flat_model(pair):
    def picture(draw, model):
        return np.asarray(draw(model, images(32)[0]).axes[-1].images[-1].get_array())

    for draw in (
        lambda model, x: keras_archs.visualize.grad_cam(model, x, 2),
        lambda model, x: keras_archs.visualize.grad_cam(model, x, 2, layer=1),
        lambda model, x: keras_archs.visualize.feature_maps(model, x, 2, count=4),
    ):
        found, expected = (picture(draw, model) for model in pair)
        assert np.ptp(expected) > 0.01, "a flat picture would say nothing"
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_frozen_layers_are_those_of_the_flat_model_and_stay(pair):
    model, twin = pair
    for each in pair:
        keras_archs.freeze(each, 2)
    trainable = [sorted(own_name(w.path) for w in each.trainable_weights) for each in pair]
    assert trainable[0] == trainable[1]
    assert len(trainable[0]) == 5  # kernel, gamma, beta; kernel, bias
    frozen = [weight for weight in model.weights if "3" not in weight.path.split("/")[-2]][:10]
    before = [weight.numpy() for weight in frozen]
    assert len(before) == len([w for w in twin.layers[1:7] for _ in w.weights]) == 10
    kernel = next(w for w in model.trainable_weights if "conv3" in w.path).numpy()
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(5 + images(32, count=4), np.arange(4) % 3, verbose=0)
    for weight, old in zip(frozen, before, strict=True):
        np.testing.assert_array_equal(weight, old, err_msg=weight.path)
    now = next(w for w in model.trainable_weights if "conv3" in w.path).numpy()
    assert not np.array_equal(kernel, now)


def blocks_in(model, kind):
    return [each for each in inner_layers(model) if isinstance(each, kind)]


@pytest.mark.parametrize("place", [2, "*relu2"])
def test_a_block_in_the_middle_leaves_the_outputs_and_the_model(pair, place, tmp_path):
    model, _ = pair
    before = model.get_weights()
    result = keras_archs.insert(model, keras_archs.NonLocalBlock(), after=place)
    (block,) = blocks_in(result, keras_archs.NonLocalBlock)
    assert block.name == "relu2_non_local_block"
    assert not blocks_in(model, keras_archs.NonLocalBlock)
    assert not result.compiled
    np.testing.assert_array_equal(result(images(32)), model(images(32)))
    result.save(tmp_path / "inserted.keras")
    loaded = keras.saving.load_model(tmp_path / "inserted.keras")
    np.testing.assert_allclose(loaded(images(32)), model(images(32)), atol=1e-6)
    for weight in result.trainable_weights:
        weight.assign(weight + 1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_folded_outputs_are_those_of_the_model(pair):
    model, _ = pair
    fused = keras_archs.fuse(model)
    assert not blocks_in(fused, keras.layers.BatchNormalization)
    assert not fused.compiled
    np.testing.assert_allclose(fused(images(32)), model(images(32)), atol=1e-5)


@pytest.mark.full
def test_stages_computed_twice_train_like_the_model(pair):
    lean, losses = keras_archs.rematerialize(pair[0], [1, 2]), []
    assert len(blocks_in(lean, Rematerialized)) == 2
    for dropout in (pair[0], pair[1]):
        next(each for each in inner_layers(dropout) if each.name == "dropout").rate = 0
    for model in (lean, pair[1]):
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        x, y = images(32, count=4), np.arange(4) % 3
        losses.append([model.train_on_batch(x, y) for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_the_file_computes_what_the_model_does(pair):
    x = images(32)
    content = tflite_export.convert(pair[0]).content
    scores = [tflite_export.Classifier(content).predict(each[None])[0] for each in x]
    np.testing.assert_allclose(scores, pair[1](x), atol=1e-5)


def guide():
    """The whole model of Keras' guide on transfer learning, augmentation included."""
    flips = [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)]
    inner = backbone()
    inner.trainable = False

    def network(x):
        x = keras.Sequential(flips, name="augmentation")(x)
        x = inner(layers.Rescaling(1 / 127.5, -1)(x), training=False)
        return head(x, 1, None)

    return model_of(network)


def two_backbones():
    def network(x):
        both = [backbone(pooling=True, name=name)(x) for name in ("left", "right")]
        return layers.Dense(3, activation="softmax")(layers.Concatenate()(both))

    return model_of(network)


def two_images():
    inner = backbone(pooling=True)
    pair = [keras.Input(SHAPE, name=name) for name in ("left", "right")]
    apart = layers.Subtract()([inner(each) for each in pair])
    return keras.Model(pair, layers.Dense(1, activation="sigmoid")(apart), name="whole")


def one_image_seen_twice():
    inner = backbone(pooling=True)

    def network(x):
        apart = layers.Subtract()([inner(x), inner(keras.ops.flip(x, 2))])
        return layers.Dense(1, activation="sigmoid")(apart)

    return model_of(network)


def two_outputs():
    def network(x):
        x = layers.GlobalAveragePooling2D()(backbone()(x))
        kind = layers.Dense(3, activation="softmax", name="kind")(x)
        return {"kind": kind, "box": layers.Dense(4, name="box")(x)}

    return model_of(network)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner, self.dense = backbone(pooling=True), layers.Dense(3)

    def call(self, x):
        return self.dense(self.inner(x))


def subclassed():
    model = Subclassed()
    model(images(32))
    return model


def not_built():
    return keras.Sequential([layers.Conv2D(4, 3), layers.Dense(3)])


IMAGE = images(32)[0]
FUNCTIONS = {
    "profile": keras_archs.profile,
    "feature_info": keras_archs.feature_info,
    "feature_extractor": keras_archs.feature_extractor,
    "freeze": lambda model: keras_archs.freeze(model, 2),
    "freeze by name": lambda model: keras_archs.freeze(model, "backbone/relu2"),
    "insert": lambda model: keras_archs.insert(model, keras_archs.ECA(), after=2),
    "insert by name": lambda m: keras_archs.insert(m, keras_archs.ECA(), after="*/relu2"),
    "fuse": keras_archs.fuse,
    "rematerialize": lambda model: keras_archs.rematerialize(model, [2]),
    "grad_cam": lambda model: keras_archs.visualize.grad_cam(model, IMAGE),
    "feature_maps": lambda model: keras_archs.visualize.feature_maps(model, IMAGE),
    "convert": tflite_export.convert,
}
LEVELS = {"feature_extractor", "freeze", "insert", "rematerialize", "grad_cam", "feature_maps"}
NO_LEVELS = dict.fromkeys(LEVELS, "'whole' has no levels.*name of a layer, such as '")
NOT_BUILT = "Sequential that is not built: call model.build"
NOT_FUNCTIONAL = r"got a Subclassed: call .*keras.Model\(inputs, model.call\(inputs\)\) first"
REFUSED: dict[Any, dict[str, str]] = {
    guide: {},
    two_backbones: {**NO_LEVELS, "freeze by name": "Did you mean 'left/relu2' or 'right/relu2'"},
    two_images: {
        **NO_LEVELS,
        **dict.fromkeys(("grad_cam", "feature_maps"), "model must take one image.*whole"),
        "convert": "one input and one output.*2 inputs",
    },
    one_image_seen_twice: NO_LEVELS,
    two_outputs: {
        "rematerialize": "model must have one output, but whole has 2",
        "convert": r"2 outputs.*keras.Model\(model.inputs, model.outputs\[0\]\)",
    },
    backbone: {
        "grad_cam": "'backbone'.*not scores.*Dense layer",
        "freeze by name": "Did you mean 'relu2'",
        "insert by name": "'backbone' has no|not a layer of backbone",
        "convert": r"give \[n, classes\].*needs pooling",
    },
    not_built: dict.fromkeys(FUNCTIONS, NOT_BUILT),
    subclassed: dict.fromkeys(FUNCTIONS, NOT_FUNCTIONAL),
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_works_or_says_in_one_line_what_to_call_first(make):
    for name, function in FUNCTIONS.items():
        model = make()
        if name not in REFUSED[make]:
            function(model)
            continue
        with pytest.raises(InputError, match=REFUSED[make][name]) as raised:
            function(model)
        assert "\n" not in str(raised.value), name


def test_the_remedies_work():
    model = subclassed()
    inputs = keras.Input(SHAPE)
    graph = keras.Model(inputs, model.call(inputs))
    assert [feature.level for feature in keras_archs.feature_info(graph)] == [1, 2, 3]
    np.testing.assert_allclose(graph(images(32)), model(images(32)), atol=1e-6)
    model = not_built()
    model.build((None, *SHAPE))
    assert keras_archs.profile(model).parameters == model.count_params()


def test_a_shared_model_stays_shared():
    model = one_image_seen_twice()
    cost, once = keras_archs.profile(model), keras_archs.profile(backbone(pooling=True))
    assert cost.parameters == model.count_params() == once.parameters + 9
    assert cost.multiply_adds == 2 * once.multiply_adds + 8
    result = keras_archs.insert(model, keras_archs.NonLocalBlock(), after="backbone/relu2")
    assert len(blocks_in(result, keras_archs.NonLocalBlock)) == 1
    np.testing.assert_array_equal(result(images(32)), model(images(32)))
    assert keras_archs.fuse(model).count_params() < model.count_params()
    figure = keras_archs.visualize.grad_cam(model, IMAGE, layer="backbone/relu3")
    assert "backbone/relu3" in figure.get_suptitle()


def test_a_layer_inside_and_outside_stays_shared():
    inner = backbone()
    model = model_of(lambda x: head(layers.Add()([inner(x), inner.get_layer("relu3")(inner(x))])))
    for path in ("backbone/relu3", "relu3"):
        result = keras_archs.insert(model, keras_archs.NonLocalBlock(), after=path)
        assert len(blocks_in(result, keras_archs.NonLocalBlock)) == 2
        assert result.get_layer("relu3") is result.get_layer("backbone").get_layer("relu3")
        np.testing.assert_array_equal(result(images(32)), model(images(32)))


def test_two_networks_on_one_input():
    """Their poolings have the name that Keras finds, as those of keras.applications have."""
    inputs = keras.Input((64, 64, 3))
    arguments = {"input_tensor": inputs, "include_top": False, "pooling": "avg"}
    both = [keras_archs.MobileNetV2(**arguments), keras_archs.ResNet18(**arguments)]
    outputs = layers.Concatenate()([each.output for each in both])
    model = keras.Model(inputs, layers.Dense(3)(outputs), name="whole")
    assert model.count_params() == sum(each.count_params() for each in both) + 3 * (1280 + 512 + 1)
    assert keras_archs.profile(model).parameters == model.count_params()
    with pytest.raises(InputError, match="no levels"):
        keras_archs.feature_extractor(model)


def test_one_level_is_a_tensor_and_several_are_a_list():
    model = nested()
    assert keras_archs.feature_extractor(model, 3).output.shape == (None, 4, 4, 8)
    assert keras_archs.feature_extractor(model, np.int64(3)).output.shape == (None, 4, 4, 8)
    assert len(keras_archs.feature_extractor(model, np.array([2, 3])).output) == 2
    assert len(keras_archs.feature_extractor(model, (3,)).output) == 1


def test_numpy_integers_are_levels():
    model = nested()
    keras_archs.freeze(model, np.int64(3))
    assert len(model.trainable_weights) == 2
    result = keras_archs.insert(model, keras_archs.ECA(), after=np.int32(3))
    assert len(blocks_in(result, keras_archs.ECA)) == 1
    result = keras_archs.insert(model, keras_archs.ECA(), after=np.array([2, 3]))
    assert len(blocks_in(result, keras_archs.ECA)) == 2
    keras_archs.rematerialize(model, np.array([1, 2]))
    keras_archs.rematerialize(model, 3)
    result = WRONGLY.insert(model, keras_archs.ECA(), after=np.array(3))
    assert len(blocks_in(result, keras_archs.ECA)) == 1
    assert WRONGLY.feature_extractor(model, np.array(3)).output.shape == (None, 4, 4, 8)


WRONGLY: Any = keras_archs  # whose types these calls do not keep


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: WRONGLY.freeze(m, "conv2"), "until='conv2'.*mean 'backbone/conv2'"),
        (lambda m: WRONGLY.freeze(m, "backbone/conv*"), r"until=.*3 layers.*'backbone/conv3'"),
        (lambda m: WRONGLY.freeze(m, True), "until=True"),
        (lambda m: WRONGLY.freeze(m, 2.0), r"until=2\.0"),
        (lambda m: WRONGLY.insert(m, keras_archs.ECA(), after="relu9"), "after='relu9'"),
        (lambda m: WRONGLY.insert(m, keras_archs.ECA(), after=[]), r"after=\[\]"),
        (lambda m: WRONGLY.insert(m, keras_archs.ECA(), after=None), "after=None"),
        (lambda m: WRONGLY.feature_extractor(m, []), r"levels.*\[\]"),
        (lambda m: WRONGLY.feature_extractor(m, "3"), "levels.*'3'"),
        (lambda m: WRONGLY.feature_extractor(m, [1, 2.5]), r"levels.*2\.5"),
        (lambda m: WRONGLY.rematerialize(m, None), "levels.*None"),
        (
            lambda m: WRONGLY.insert(m, layers.Dense(5, name="wide"), after="*relu2"),
            r"block 'wide' \(Dense\) changes .*'backbone/relu2' from shape \(None, 8, 8, 8\)"
            r" to \(None, 8, 8, 5\)",
        ),
        (
            lambda m: WRONGLY.insert(m, layers.GlobalAveragePooling2D(), after="*relu2"),
            r"GlobalAveragePooling2D.*\(None, 8, 8, 8\) to \(None, 8\)",
        ),
        (
            lambda m: WRONGLY.insert(m, layers.Conv2D(3, 3), after="pooling"),
            r"block 'conv2d.*' \(Conv2D\) cannot be called.*'pooling'.*\(None, 8\)",
        ),
    ],
)
def test_bad_input_is_named_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as raised:
        call(nested())
    assert "\n" not in str(raised.value)
