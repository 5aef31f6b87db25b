"""The last map of every resolution, frozen stages, and pictures of what a network sees."""

import keras
import numpy as np
import pytest

import keras_archs
from keras_archs.graph import inner_layers, symbolic
from keras_archs.registry import find
from tests.keras_archs.helpers import images, randomize
from tests.keras_archs.test_builders import EACH, build

# Channels of levels 1 to 5 as timm's `feature_info` states them for the same networks; level 5 of
# the networks with a last 1x1 convolution includes it.
TIMM = {
    "resnet18": [64, 64, 128, 256, 512],
    "resnet50": [64, 256, 512, 1024, 2048],
    "mobilenet": [64, 128, 256, 512, 1024],
    "mobilenetv2": [16, 24, 32, 96, 1280],
    "mobilenetv3large": [16, 24, 40, 112, 960],
    "mobilenetv3small": [16, 16, 24, 48, 576],
    "mobilenetv4convsmall": [32, 32, 64, 96, 960],
    "mobilenetv4hybridmedium": [32, 48, 80, 160, 960],
    "efficientnetb0": [16, 24, 40, 112, 1280],
    "efficientnetv2s": [24, 48, 64, 160, 1280],
    "inceptionv4": [64, 192, 384, 1024, 1536],
    "xception": [64, 128, 256, 728, 2048],
    "coatnet0": [64, 96, 192, 384, 768],
}
# Networks of the builders that differ from another by their depth alone.
# fmt: off
LARGE = (
    "101", "152", "101d", "152d", "101v2", "152v2", "200", "270", "350", "420", "net3", "net4",
    "b4", "b5", "b6", "b7", "v2m", "v2l", "v2xl", "lite3", "lite4", "hybridlarge",
)
# fmt: on


@pytest.mark.parametrize("name", TIMM)
def test_channels_by_level(name):
    info = keras_archs.feature_info(name)
    assert [feature.channels for feature in info] == TIMM[name]
    assert [(f.level, f.stride) for f in info] == [(level, 2**level) for level in range(1, 6)]


@pytest.mark.parametrize(
    "name", [name for name in keras_archs.list_models() if not name.endswith(LARGE)]
)
def test_every_builder_has_levels_known_without_building(name):
    info = {feature.level: feature for feature in keras_archs.feature_info(name)}
    small = find(name).family.size == 32  # wide ResNets, whose last map of 32x32 pixels is 8x8
    assert ({0, 1, 2} if small else {1, 2, 3, 4, 5}) <= set(info)
    assert all(feature.stride == 2**level for level, feature in info.items())


def levels_and_names(model):
    return [(feature.level, feature.name) for feature in keras_archs.feature_info(model)]


@pytest.mark.parametrize("case", EACH)
def test_levels_do_not_depend_on_the_size(case):
    """At 256 every map is the input divided by a power of two; at 33 most are not."""
    with symbolic():
        expected = levels_and_names(build(case, input_shape=(256, 256, 3), include_top=False))
        for size in (33, 48, 65, 75, 97, 128, 160, 192):
            if size >= find(case.removesuffix("_bn")).family.min_size:
                model = build(case, input_shape=(size, size, 3), include_top=False)
                assert levels_and_names(model) == expected, size


def test_levels_through_nested_models_transposed_and_unpadded_layers():
    layers = keras.layers
    inner = keras.Sequential([layers.Input((33, 33, 3)), layers.Conv2D(4, 3, strides=2)])
    inner = keras.Model(inner.inputs, inner.outputs[0], name="inner")
    inputs = keras.Input((33, 33, 3))
    x = inner(inputs)  # 16
    x = layers.MaxPooling2D(3, strides=2, name="quarter")(x)  # 7
    x = layers.Conv2D(4, 5, name="three")(x)  # 3
    x = layers.Conv2D(4, 3, name="one")(x)  # 1
    x = layers.Conv2DTranspose(4, 2, strides=2, name="half")(x)
    x = layers.UpSampling2D(2, name="full")(x)
    x = layers.ZeroPadding2D(3)(x)
    model = keras.Model(inputs, layers.Conv2D(4, 2, strides=4, name="end")(x))
    assert levels_and_names(model) == [(0, "full"), (1, "half"), (2, "end")]


@pytest.mark.parametrize(
    ("build_model", "name"),
    [
        (lambda: keras_archs.MobileNetV3Small(include_preprocessing=True), "conv_act"),
        (lambda: keras.applications.MobileNetV3Small(weights=None), "activation"),
        (lambda: keras.applications.EfficientNetB0(weights=None), "block1a_project_bn"),
    ],
)
def test_preprocessing_is_no_feature(build_model, name):
    with symbolic():
        first = keras_archs.feature_info(build_model())[0]
    assert (first.level, first.name, first.channels) == (1, name, 16)


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in keras_archs.list_models() if name.endswith(LARGE)]
)
def test_levels_of_the_large_networks(name):
    info = keras_archs.feature_info(name)
    assert [f.level for f in info] in ([1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])
    assert len({f.name for f in info}) == len(info)
    assert info[-1].stride == 32


def test_one_level_is_the_map_itself():
    model = keras_archs.ResNet18(input_shape=(32, 32, 3), include_top=False)
    alone = keras_archs.feature_extractor(model, levels=5)
    assert alone.output_shape == (None, 1, 1, 512)
    np.testing.assert_array_equal(alone(images(32)), model(images(32)))


@pytest.mark.parametrize("size", [64, 97, 224])
@pytest.mark.parametrize("name", ["mobilenetv2", "resnet18", "vgg11", "efficientnetb0"])
def test_maps_have_the_promised_shapes(name, size):
    model = keras_archs.feature_extractor(name, levels=(2, 3, 4, 5))
    maps = model(images(size, count=1))
    info = keras_archs.feature_info(name)[-4:]
    for each, feature in zip(maps, info, strict=True):
        assert each.shape[-1] == feature.channels
        # Every halving rounds up or down.
        assert abs(each.shape[1] - size / feature.stride) < 1


def test_last_map_is_that_without_the_top():
    whole = keras_archs.ResNet18(input_shape=(64, 64, 3), classes=5)
    headless = keras_archs.ResNet18(input_shape=(64, 64, 3), include_top=False)
    headless.set_weights(whole.get_weights()[:-2])
    last = keras_archs.feature_extractor(whole, levels=[5])(images(64))
    np.testing.assert_array_equal(last, headless(images(64)))


@pytest.mark.full
def test_models_of_keras_applications():
    model = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3))
    ours = keras_archs.feature_info("mobilenetv2")
    assert [f.channels for f in keras_archs.feature_info(model)] == [f.channels for f in ours]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keras_archs.feature_info("resnet51"), "resnet50"),
        (lambda: keras_archs.feature_info("resnet50", alpha=1), "no argument 'alpha'"),
        (lambda: keras_archs.feature_info(keras.Model()), "functional"),
        (lambda: keras_archs.feature_extractor("resnet18", levels=[0]), r"level 0.*\[1, 2"),
        (lambda: keras_archs.feature_extractor("resnet18", levels=0), r"level 0.*\[1, 2"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def small():
    model = keras_archs.ResNet18(input_shape=(32, 32, 3), classes=3, attention={5: "cbam"})
    return keras_archs.insert(model, keras_archs.CBAM(), after=2)


def statistics(model, names):
    return [w.numpy() for n in names for w in model.get_layer(n).non_trainable_weights]


@pytest.mark.full
def test_frozen_stages_stay_as_they_are_before_and_after_saving(tmp_path):
    """keras#20147: a model that was loaded must not go on to move its statistics."""
    model = small()
    keras_archs.freeze(model, 3)
    x, y = 5 + images(32, count=8), np.arange(8) % 3
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    assert frozen[0] == "conv1_conv"
    assert "conv2_block2_out_cbam" in frozen
    assert "conv3_block2_2_bn" in frozen
    assert "conv4_block1_1_conv" not in frozen
    for _ in range(2):
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        before = {n: model.get_layer(n).get_weights() for n in frozen}
        moving = statistics(model, ["conv5_block1_1_bn"])
        for _ in range(3):
            model.train_on_batch(x, y)
        for name, weights in before.items():
            for old, new in zip(weights, model.get_layer(name).get_weights(), strict=True):
                np.testing.assert_array_equal(old, new, err_msg=name)
        assert not np.array_equal(moving[0], statistics(model, ["conv5_block1_1_bn"])[0])
        # Frozen batch norm is the same function while training and at inference.
        part = keras.Model(model.input, model.get_layer("conv3_block2_out").output)
        np.testing.assert_array_equal(part(x, training=True), part(x, training=False))
        model.save(tmp_path / "frozen.keras")
        expected = model(x)
        model = keras.saving.load_model(tmp_path / "frozen.keras")
        np.testing.assert_allclose(model(x), expected, atol=1e-6)
        assert [layer.name for layer in model.layers if layer.weights and not layer.trainable] == (
            frozen
        )


def test_freeze_by_name_all_norms_and_nothing():
    model = small()
    keras_archs.freeze(model, "conv1_relu", batch_norm=True)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert not any(norm.trainable for norm in norms)
    assert model.get_layer("conv2_block1_1_conv").trainable
    keras_archs.freeze(model, None)
    assert all(layer.trainable for layer in model.layers)
    assert len(model.non_trainable_weights) == 2 * (len(norms) + 2)
    keras_archs.freeze(model, 5)
    trainable = {layer.name for layer in model.layers if layer.trainable and layer.weights}
    assert trainable == {"predictions"}


def nested():
    inner = keras_archs.ResNet18(input_shape=(32, 32, 3), include_top=False, pooling="avg")
    inputs = keras.Input((32, 32, 3))
    x = keras_archs.CBAM(name="cbam")(keras.layers.Conv2D(3, 3, padding="same")(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(inner(keras_archs.NonLocalBlock()(x))))


def norms_of(model):
    return [x for x in inner_layers(model) if isinstance(x, keras.layers.BatchNormalization)]


@pytest.mark.full
def test_frozen_norms_inside_blocks_and_nested_models_stay_frozen(tmp_path):
    model = nested()
    keras_archs.freeze(model, None, batch_norm=True)
    model.save(tmp_path / "frozen.keras")
    copies = [
        keras.saving.load_model(tmp_path / "frozen.keras"),
        keras.models.clone_model(model),
        keras_archs.insert(model, keras_archs.SqueezeExcite(), after="cbam"),
    ]
    for each in (model, *copies):
        assert len(norms_of(each)) == 22  # 20 of ResNet18, one of each block
        assert not any(norm.trainable for norm in norms_of(each))
        assert each.get_layer("cbam").spatial.trainable
        each.compile(keras.optimizers.SGD(0.1), "mse")
        before = [w.numpy() for norm in norms_of(each) for w in norm.weights]
        each.train_on_batch(5 + images(32, count=4), np.ones((4, 3)))
        after = [w.numpy() for norm in norms_of(each) for w in norm.weights]
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old, new)
    keras_archs.freeze(model, None)
    assert all(norm.trainable for norm in norms_of(model))


@pytest.mark.parametrize(
    ("until", "message"), [("conv9", "until='conv9'"), (7, r"until=7.*\[1, 2, 3, 4, 5\]")]
)
def test_freeze_names_bad_input(until, message):
    with pytest.raises(ValueError, match=message):
        keras_archs.freeze(small(), until)


def test_grad_cam_looks_where_the_signal_is():
    """A network that counts bright pixels looks at the bright corner."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(x))
    kernel, bias, _ = model.get_weights()
    model.set_weights([np.ones_like(kernel), bias, np.tile([0.0, 1.0], (4, 1))])
    image = np.zeros((32, 32, 3), "float32")
    image[:8, :8] = 1
    figure = keras_archs.visualize.grad_cam(model, image)
    heat = figure.axes[1].images[1].get_array()
    assert heat.shape == (32, 32)
    assert heat[:8, :8].min() > 0.3
    assert heat[12:, 12:].max() == 0
    assert "class 1" in figure.axes[1].get_title()


def heat_of(model, **arguments):
    image = images(model.input_shape[1])[0]
    figure = keras_archs.visualize.grad_cam(model, image, **arguments)
    return np.asarray(figure.axes[1].images[1].get_array())


def dense_top(x, activation):
    return keras.layers.Dense(3, activation=activation, name="scores")(x)


def activation_top(x, activation):
    return keras.layers.Activation(activation)(keras.layers.Dense(3, name="scores")(x))


def softmax_layer_top(x, activation):
    x = keras.layers.Dense(3, name="scores")(x)
    return keras.layers.Softmax()(x) if activation else x


def nested_top(x, activation):
    inputs = keras.Input(x.shape[1:])
    outputs = keras.layers.Dense(3, activation=activation)(inputs)
    return keras.Model(inputs, outputs, name="scores")(x)


@pytest.mark.parametrize("top", [dense_top, activation_top, softmax_layer_top, nested_top])
def test_grad_cam_of_a_sure_answer_is_that_of_its_logits(top):
    def model(activation):
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.Conv2D(8, 3, strides=4, activation="relu", name="conv")(inputs)
        return keras.Model(inputs, top(keras.layers.GlobalAveragePooling2D()(x), activation))

    logits, sure = model(None), model("softmax")
    kernels = [w if w.ndim == 4 else 1000 * w for w in logits.get_weights()]
    for each in (logits, sure):
        each.set_weights(kernels)
    assert np.max(sure(images(32)[:1])) == 1.0
    expected = heat_of(logits, layer="conv")
    assert expected.max() == 1
    np.testing.assert_allclose(heat_of(sure, layer="conv"), expected, atol=1e-6)


@pytest.mark.full
def test_grad_cam_of_mobilenet_is_that_of_its_logits():
    """Its softmax is a layer of its own behind a convolution."""
    sure, logits = (
        keras_archs.MobileNet(
            alpha=0.25, input_shape=(64, 64, 3), classes=3, classifier_activation=activation
        )
        for activation in ("softmax", None)
    )
    randomize(sure)
    kernel = np.zeros((1, 1, 256, 3))
    kernel[..., 1] = np.random.default_rng(0).uniform(50, 100, 256)  # all speaks for one class
    sure.get_layer("conv_preds").kernel.assign(kernel)
    logits.set_weights(sure.get_weights())
    assert np.max(sure(images(64)[:1])) == 1.0
    expected = heat_of(logits)
    assert expected.max() == 1
    assert np.ptp(expected) > 1e-3, "a flat map would say nothing"
    np.testing.assert_allclose(heat_of(sure), expected, atol=1e-5)


def test_grad_cam_in_half_precision_is_that_in_full():
    """The gradient at the map, 1e-6 / 1024, is less than the smallest float16, 6e-8."""
    heats = []
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.Conv2D(2, 3, padding="same", name="conv")(inputs)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, keras.layers.Dense(1, dtype="float32")(x))
        kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 2))
        model.set_weights([kernel, np.zeros(2), np.full((2, 1), 1e-6), np.zeros(1)])
        heats.append(heat_of(model, layer="conv"))
    assert heats[0].max() == 1
    np.testing.assert_allclose(heats[1], heats[0], atol=0.01)


def test_attention_map_shows_the_scores_of_one_position():
    inputs = keras.Input((8, 8, 4))
    layer = keras_archs.MultiHeadSelfAttention2D(2, position=None, name="attention")
    model = keras.Model(inputs, layer(inputs))
    image = np.random.default_rng(0).normal(size=(8, 8, 4)).astype("float32")
    figure = keras_archs.visualize.attention_map(model, image, "attention", position=(0.5, 0.25))
    _, scores = layer(image[None], return_attention_scores=True)
    assert len(figure.axes) == 2
    for head, axis in enumerate(figure.axes):
        shown = np.asarray(axis.images[1].get_array())
        np.testing.assert_allclose(shown, scores[0, head, 4, 2], rtol=1e-5)


@pytest.mark.parametrize(
    "block",
    [
        keras_archs.NonLocalBlock,
        keras_archs.GlobalContext,
        keras_archs.MultiQueryAttention2D,
        keras_archs.MultiHeadSelfAttention2D,
    ],
)
def test_pictures_are_files(block, tmp_path):
    model = keras_archs.MobileNet(alpha=0.25, input_shape=(64, 64, 3), attention={3: block()})
    image = images(64)[0]
    name = next(layer.name for layer in model.layers if isinstance(layer, block))
    figures = [
        keras_archs.visualize.attention_map(model, image, name),
        keras_archs.visualize.feature_maps(model, image, 2, count=5),
        keras_archs.visualize.grad_cam(model, image, class_index=3, layer=4),
    ]
    for index, figure in enumerate(figures):
        path = tmp_path / f"{index}.png"
        figure.savefig(path)
        assert path.stat().st_size > 5000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: keras_archs.visualize.feature_maps(m, x, "con1"), "layer='con1'"),
        (lambda m, x: keras_archs.visualize.feature_maps(m, x, 7), r"layer=7.*\[1, 2"),
        (lambda m, x: keras_archs.visualize.feature_maps(m, np.stack([x, x])), "image must be"),
        (lambda m, x: keras_archs.visualize.grad_cam(m, x, 1000), r"class_index.*0\.\.999"),
        (
            lambda m, x: keras_archs.visualize.attention_map(m, x, "conv1"),
            "attention scores, got .conv1., a Conv2D",
        ),
    ],
)
def test_pictures_name_bad_input(call, message):
    model = keras_archs.MobileNet(alpha=0.25, input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match=message):
        call(model, images(32)[0])
