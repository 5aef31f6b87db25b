"""The networks that only timm has, with its random weights carried over.

Runs where the extra `parity` is installed (`make parity`).
"""

import functools

import numpy as np
import pytest

import keras_archs
from keras_archs.graph import symbolic
from tests.keras_archs.helpers import assert_close, images

torch = pytest.importorskip("torch")
# First this one: it declares the operators without which the import of timm fails.
test_torchvision = pytest.importorskip("tests.keras_archs.test_torchvision")
timm = pytest.importorskip("timm")

SIZES = (64, 97)


def random_timm_model(name):
    return test_torchvision.randomize(timm.create_model(name, pretrained=False).eval())


def carry(layer, *modules):
    """Gives the layer, or one inside a layer, the weights of the modules in their order."""
    weights = [weight for module in modules for weight in test_torchvision.weights_of(module)]
    layer.set_weights([w.reshape(v.shape) for w, v in zip(weights, layer.weights, strict=True)])


@pytest.mark.full
@pytest.mark.parametrize("size", ["0", "3"])
def test_efficientnet_lite(size):
    theirs = random_timm_model(f"tf_efficientnet_lite{size}")
    ours = getattr(keras_archs, f"EfficientNetLite{size}")(
        input_shape=(None, None, 3), classifier_activation=None
    )
    kinds = torch.nn.Conv2d | torch.nn.BatchNorm2d | torch.nn.Linear
    modules = [module for module in theirs.modules() if isinstance(module, kinds)]
    layers = [layer for layer in ours.layers if layer.weights]
    for layer, module in zip(layers, modules, strict=True):
        carry(layer, module)
    for side in SIZES:
        x = images(side)
        assert_close(np.asarray(ours(x)), test_torchvision.outputs(theirs, x), 1e-4)


def resnet_v2_module(name):
    """timm's name of our layer: conv3_block1_0_conv is stages.1.blocks.0.downsample.conv."""
    fixed = {"conv1_conv": "stem.conv", "post_bn": "norm", "predictions": "head.fc"}
    if name in fixed:
        return fixed[name]
    stage, block, part, kind = name.split("_")
    prefix = f"stages.{int(stage[4:]) - 2}.blocks.{int(block[5:]) - 1}"
    parts = {
        ("preact", "bn"): "norm1",
        ("0", "conv"): "downsample.conv",
        ("1", "conv"): "conv1",
        ("1", "bn"): "norm2",
        ("2", "conv"): "conv2",
    }
    return f"{prefix}.{parts[part, kind]}"


@pytest.mark.full
@pytest.mark.parametrize("depth", [18, 34])
def test_resnet_v2(depth):
    theirs = random_timm_model(f"resnetv2_{depth}")
    # Like keras.applications' ResNetV2 ours pads with zeros before the pooling, timm's with -inf.
    theirs.stem.pool = torch.nn.Sequential(torch.nn.ZeroPad2d(1), torch.nn.MaxPool2d(3, 2))
    ours = getattr(keras_archs, f"ResNet{depth}V2")(
        input_shape=(None, None, 3), classifier_activation=None
    )
    for layer in ours.layers:
        if layer.weights:
            carry(layer, theirs.get_submodule(resnet_v2_module(layer.name)))
    for side in SIZES:
        x = images(side)
        assert_close(np.asarray(ours(x)), test_torchvision.outputs(theirs, x), 1e-4)
    assert sum(np.prod(w.shape) for w in ours.trainable_weights) == sum(
        parameter.numel() for parameter in theirs.parameters()
    )


def resnet_modules(name):
    """timm's names of what one of our layers holds: conv3_block1_gate is layer2.0.se.fc1 and fc2.

    The pooling of a ResNet-D's shortcut stands at index 0 there.
    """
    fixed = {
        "predictions": "fc",
        "conv1_conv": "conv1",
        "conv1_bn": "bn1",
        "conv1_1_conv": "conv1.0",
        "conv1_1_bn": "conv1.1",
        "conv1_2_conv": "conv1.3",
        "conv1_2_bn": "conv1.4",
        "conv1_3_conv": "conv1.6",
        "conv1_3_bn": "bn1",
        "pool1_conv": "maxpool.0",
        "pool1_bn": "maxpool.1",
    }
    if name in fixed:
        return [fixed[name]]
    stage, block, part, *kind = name.split("_")
    prefix = f"layer{int(stage[4:]) - 1}.{int(block[5:]) - 1}"
    if part == "gate":
        return [f"{prefix}.se.fc1", f"{prefix}.se.fc2", f"{prefix}.se.conv"]
    if part == "0":
        kinds = {"conv": torch.nn.Conv2d, "bn": torch.nn.BatchNorm2d}
        return [f"{prefix}.downsample", kinds[kind[0]]]
    return [f"{prefix}.{kind[0]}{part}"]


def modules_of(theirs, name):
    first, *others = resnet_modules(name)
    if others and isinstance(others[0], type):
        return [m for m in theirs.get_submodule(first) if isinstance(m, others[0])]
    known = dict(theirs.named_modules())
    return [known[each] for each in (first, *others) if each in known]


def eca_resnet50():
    resnet = timm.models.resnet
    return resnet.ResNet(resnet.Bottleneck, (3, 4, 6, 3), block_args={"attn_layer": "eca"})


@pytest.mark.full
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("ResNet18D", "resnet18d"),
        pytest.param("ResNet50D", "resnet50d", marks=pytest.mark.slow),
        ("ResNetRS50", "resnetrs50"),
        ("ResNeXt50", "resnext50_32x4d"),
        pytest.param("WideResNet50", "wide_resnet50_2", marks=pytest.mark.slow),
        pytest.param("SEResNet50", "seresnet50", marks=pytest.mark.slow),
        pytest.param("SEResNeXt50", "seresnext50_32x4d", marks=pytest.mark.slow),
        ("ECAResNet50", eca_resnet50),
    ],
)
def test_later_resnets(ours, theirs):
    theirs = random_timm_model(theirs) if isinstance(theirs, str) else theirs()
    test_torchvision.randomize(theirs.eval())
    model = getattr(keras_archs, ours)(input_shape=(None, None, 3), classifier_activation=None)
    for layer in model.layers:
        if layer.weights:
            carry(layer, *modules_of(theirs, layer.name))
    for side in SIZES:
        x = images(side)
        assert_close(np.asarray(model(x)), test_torchvision.outputs(theirs, x), 1e-4)
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == sum(
        parameter.numel() for parameter in theirs.parameters()
    )


def timm_resnet50(attention=None):
    resnet = timm.models.resnet
    arguments = {"block_args": {"attn_layer": attention}} if attention else {}
    return resnet.ResNet(resnet.Bottleneck, (3, 4, 6, 3), **arguments).eval()


def carry_resnet(model, theirs):
    """Carries all but the blocks of attention, which are returned with the block they stand in."""
    blocks = []
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name.endswith(("gate", "attention", "non_local")):
            stage, block = layer.name.split("_")[:2]
            module = theirs.get_submodule(f"layer{int(stage[4:]) - 1}")
            blocks.append((layer, module[int(block[5:]) - 1]))
        else:
            carry(layer, *modules_of(theirs, layer.name))
    return blocks


def assert_same_trainable(model, theirs):
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == sum(
        parameter.numel() for parameter in theirs.parameters()
    )


@pytest.mark.full
@pytest.mark.slow
def test_cbam_resnet():
    # The biases are those of the authors' code.
    theirs = timm_resnet50(functools.partial(timm.layers.cbam.CbamModule, mlp_bias=True))
    test_torchvision.randomize(theirs)
    model = keras_archs.CBAMResNet50(input_shape=(None, None, 3), classifier_activation=None)
    blocks = carry_resnet(model, theirs)
    assert len(blocks) == 16
    for layer, block in blocks:
        carry(layer.reduce, block.se.channel.fc1)
        carry(layer.expand, block.se.channel.fc2)
        # Mean before maximum there.
        kernel = test_torchvision.weights_of(block.se.spatial.conv.conv)[0]
        layer.spatial.set_weights([kernel[:, :, ::-1]])
        carry(layer.norm, block.se.spatial.conv.bn)
    for side in SIZES:
        x = images(side)
        assert_close(np.asarray(model(x)), test_torchvision.outputs(theirs, x), 1e-4)
    assert_same_trainable(model, theirs)


@pytest.mark.full
def test_gc_resnet():
    gate = functools.partial(
        timm.layers.GlobalContext, fuse_add=True, fuse_scale=False, rd_ratio=1 / 16
    )
    theirs = timm_resnet50(gate)
    for block in theirs.layer1:  # the paper's begin at the third stage
        block.se = None
    for module in theirs.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5  # torch's own, as in the authors' code; 1e-6 in timm
    test_torchvision.randomize(theirs)
    model = keras_archs.GCResNet50(input_shape=(None, None, 3), classifier_activation=None)
    blocks = carry_resnet(model, theirs)
    assert len(blocks) == 13
    for layer, block in blocks:
        carry(layer.context, block.se.conv_attn)
        for ours, part in ((layer.reduce, "fc1"), (layer.norm, "norm"), (layer.expand, "fc2")):
            carry(ours, getattr(block.se.mlp_add, part))
    for side in SIZES:
        x = images(side)
        assert_close(np.asarray(model(x)), test_torchvision.outputs(theirs, x), 1e-4)
    assert_same_trainable(model, theirs)


@pytest.mark.full
def test_non_local_resnet():
    """timm's block has half of the paper's bottleneck, another scale, and no sub-sampling."""
    theirs = timm_resnet50()
    model = keras_archs.NonLocalResNet50(
        5, sub_sample=False, input_shape=(None, None, 3), classifier_activation=None
    )
    for stage, block in ((2, 2), (2, 4), (3, 2), (3, 4), (3, 6)):
        module = getattr(theirs, f"layer{stage}")[block - 1]
        channels = module.bn3.num_features
        module.behind = timm.layers.NonLocalAttn(channels, rd_channels=channels // 2)
        module.behind.scale = (channels // 2) ** -0.5
        module.register_forward_hook(lambda module, _, x: module.behind(x))
    test_torchvision.randomize(theirs.eval())
    blocks = carry_resnet(model, theirs)
    assert len(blocks) == 5
    for layer, block in blocks:
        for ours, part in (("theta", "t"), ("phi", "p"), ("g", "g"), ("project", "z")):
            carry(getattr(layer, ours), getattr(block.behind, part))
        carry(layer.norm, block.behind.norm)
    for side in SIZES:
        x = images(side)
        assert_close(np.asarray(model(x)), test_torchvision.outputs(theirs, x), 1e-4)
    assert_same_trainable(model, theirs)


@pytest.mark.full
@pytest.mark.parametrize("side", [64, 96])
def test_botnet(side):
    theirs = timm_resnet50()
    for index, block in enumerate(theirs.layer4):
        stride = 2 if index == 0 else 1
        size = (side // 16, side // 16) if index == 0 else (side // 32, side // 32)
        block.conv2 = timm.layers.bottleneck_attn.BottleneckAttn(
            512, feat_size=size, stride=stride, scale_pos_embed=True
        )
    test_torchvision.randomize(theirs)
    model = keras_archs.BoTNet50(input_shape=(side, side, 3), classifier_activation=None)
    blocks = carry_resnet(model, theirs)
    assert len(blocks) == 3
    for layer, block in blocks:
        carry(layer.qkv, block.conv2.qkv)
        tables = block.conv2.pos_embed.height_rel, block.conv2.pos_embed.width_rel
        for ours, table in zip(layer.tables, tables, strict=True):
            ours.assign(table.detach().numpy())
    x = images(side)
    assert_close(np.asarray(model(x)), test_torchvision.outputs(theirs, x), 1e-4)
    assert_same_trainable(model, theirs)


@pytest.mark.full
def test_botnet_attention():
    theirs = timm.layers.bottleneck_attn.BottleneckAttn(
        32, feat_size=(6, 5), num_heads=4, scale_pos_embed=True
    )
    layer = keras_archs.MultiHeadSelfAttention2D(4)
    x = images(6, count=2)[:, :, :5].repeat(11, axis=-1)[..., :32]
    layer(x)
    pos = theirs.pos_embed
    weights = [theirs.qkv.weight[..., 0, 0].T, pos.height_rel, pos.width_rel]
    by_size = {tuple(w.shape): w.detach().numpy() for w in weights}
    for variable in layer.trainable_weights:
        variable.assign(by_size[tuple(variable.shape)])
    assert_close(np.asarray(layer(x)), test_torchvision.outputs(theirs.eval(), x), 1e-5)


def inception_v4_modules():
    """timm's names of our convolutions: a2_3_1 is features.7.branch2.0."""
    names = {f"stem{i}": f"features.{i - 1}" for i in (1, 2, 3)}
    names |= {"stem4": "features.3.conv", "stem6_1_shrink": "features.5.conv"}
    names |= {"stem5_1_1": "features.4.branch0.0", "stem5_1_last": "features.4.branch0.1"}
    names |= {f"stem5_2_{i}": f"features.4.branch1.{i - 1}" for i in (1, 2, 3)}
    names |= {"stem5_2_last": "features.4.branch1.3"}
    names |= {"a_reduction_1_shrink": "features.10.branch0"}
    names |= {f"a_reduction_2_{i}": f"features.10.branch1.{i - 1}" for i in (1, 2)}
    names |= {"a_reduction_2_shrink": "features.10.branch1.2"}
    for branch, length in ((1, 1), (2, 3)):
        prefix = f"features.18.branch{branch - 1}"
        names |= {f"b_reduction_{branch}_{i}": f"{prefix}.{i - 1}" for i in range(1, length + 1)}
        names |= {f"b_reduction_{branch}_shrink": f"{prefix}.{length}"}
    for kind, first, count, lengths in (
        ("a", 6, 4, (2, 3)),
        ("b", 11, 7, (3, 5)),
        ("c", 19, 3, ()),
    ):
        for block in range(1, count + 1):
            ours, theirs = f"{kind}{block}", f"features.{first + block - 1}"
            names |= {f"{ours}_1_1": f"{theirs}.branch0", f"{ours}_pool_1": f"{theirs}.branch3.1"}
            for branch, length in enumerate(lengths, 1):
                for i in range(length):
                    names[f"{ours}_{branch + 1}_{i + 1}"] = f"{theirs}.branch{branch}.{i}"
            if kind == "c":
                names[f"{ours}_2_1"] = f"{theirs}.branch1_0"
                names |= {f"{ours}_3_{i + 1}": f"{theirs}.branch2_{i}" for i in range(3)}
                for side, letter in (("1x3", "a"), ("3x1", "b")):
                    names[f"{ours}_2_{side}"] = f"{theirs}.branch1_1{letter}"
                    names[f"{ours}_3_{side}"] = f"{theirs}.branch2_3{letter}"
    both = {
        f"{ours}_{kind}": f"{theirs}.{kind}"
        for ours, theirs in names.items()
        for kind in ("conv", "bn")
    }
    return {**both, "predictions": "last_linear"}


@pytest.mark.full
@pytest.mark.slow
def test_inception_v4():
    theirs = random_timm_model("inception_v4")
    modules = inception_v4_modules()
    ours = keras_archs.InceptionV4(input_shape=(None, None, 3), classifier_activation=None)
    for layer in ours.layers:
        if layer.weights:
            carry(layer, theirs.get_submodule(modules[layer.name]))
    for side in (96, 129):
        x = images(side)
        assert_close(np.asarray(ours(x)), test_torchvision.outputs(theirs, x), 1e-4)


@pytest.mark.full
@pytest.mark.jax
def test_inception_v2():
    """timm has no BN-Inception; an older collection does."""
    theirs = pytest.importorskip("pretrainedmodels").bninception(pretrained=None).eval()
    test_torchvision.randomize(theirs)
    ours = keras_archs.InceptionV2(input_shape=(None, None, 3), classifier_activation=None)
    names = {"conv1": "conv1_7x7_s2", "conv2_reduce": "conv2_3x3_reduce", "conv2": "conv2_3x3"}
    for layer in ours.layers:
        if layer.weights:
            stem = layer.name.removesuffix("_conv").removesuffix("_bn")
            module = names.get(stem, stem) + "_bn" * layer.name.endswith("_bn")
            module = "last_linear" if layer.name == "predictions" else module
            carry(layer, getattr(theirs, module))
    for name, module in theirs.named_modules():
        if isinstance(module, torch.nn.AvgPool2d) and name.startswith("inception"):
            module.count_include_pad = False  # TensorFlow's pooling leaves the padding out
    theirs.global_pool = torch.nn.AdaptiveAvgPool2d(1)
    for side in (64, 96):
        x = images(side)
        assert_close(np.asarray(ours(x)), test_torchvision.outputs(theirs, x), 1e-4)


MOBILENET_V4 = {
    "conv": ["conv"],
    "bn": ["bn1", "norm"],
    "expand_conv": ["pw_exp.conv", "conv_exp"],
    "expand_bn": ["pw_exp.bn", "bn1"],
    "start_dw": ["dw_start.conv"],
    "start_bn": ["dw_start.bn"],
    "middle_dw": ["dw_mid.conv"],
    "middle_bn": ["dw_mid.bn"],
    "project_conv": ["pw_proj.conv", "conv_pwl"],
    "project_bn": ["pw_proj.bn", "bn2"],
}


@pytest.mark.full
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("MobileNetV4ConvSmall", "mobilenetv4_conv_small"),
        pytest.param("MobileNetV4HybridMedium", "mobilenetv4_hybrid_medium", marks=pytest.mark.jax),
    ],
)
def test_mobilenet_v4(ours, theirs):
    theirs = random_timm_model(theirs)
    blocks = [block for stage in theirs.blocks for block in stage]
    model = getattr(keras_archs, ours)(input_shape=(None, None, 3), classifier_activation=None)
    fixed = {
        "stem_conv": theirs.conv_stem,
        "stem_bn": theirs.bn1,
        "head_conv": theirs.conv_head,
        "head_bn": theirs.norm_head,
        "predictions": theirs.classifier,
    }
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name in fixed:
            carry(layer, fixed[layer.name])
            continue
        number, part = layer.name.removeprefix("block").split("_", 1)
        block = blocks[int(number) - 1]
        known = dict(block.named_modules())
        if part == "scale":
            factors = np.random.default_rng(int(number)).uniform(0.1, 0.3, layer.gamma.shape)
            layer.gamma.assign(factors)
            block.layer_scale.gamma.data = torch.from_numpy(factors.astype("float32"))
        elif part == "attention":
            for role in ("query", "key", "value"):
                carry(getattr(layer, role), known[f"attn.{role}.proj"])
            carry(layer.project, known["attn.output.proj"])
            for role in ("key", "value") if layer.kv_strides > 1 else ():
                carry(getattr(layer, f"{role}_down"), known[f"attn.{role}.down_conv"])
                carry(getattr(layer, f"{role}_norm"), known[f"attn.{role}.norm"])
        else:
            carry(layer, next(known[name] for name in MOBILENET_V4[part] if name in known))
    for side in SIZES:
        x = images(side)
        assert_close(np.asarray(model(x)), test_torchvision.outputs(theirs, x), 1e-4)


COATNET = {
    "shortcut": ["shortcut.expand"],
    "preact_bn": ["pre_norm"],
    "expand_conv": ["conv1_1x1"],
    "expand_bn": ["norm1"],
    "depthwise": ["conv2_kxk"],
    "depthwise_bn": ["norm2"],
    "se": ["se.fc1", "se.fc2"],
    "project": ["conv3_1x1"],
    "norm1": ["norm1"],
    "norm2": ["norm2"],
    "mlp1": ["mlp.fc1"],
    "mlp2": ["mlp.fc2"],
}


# 63 and 95 are odd and give even maps; timm's fails at odd ones, where its pooling rounds down and
# its convolution up.
@pytest.mark.full
@pytest.mark.parametrize("side", [63, 64, 95, pytest.param(96, marks=pytest.mark.jax)])
def test_coatnet(side):
    size = side + side % 2
    theirs = timm.create_model("coatnet_0_224", conv_stride_mode="1x1", img_size=size).eval()
    test_torchvision.randomize(theirs)
    model = keras_archs.CoAtNet0(input_shape=(side, side, 3), classifier_activation=None)
    fixed = {
        "stem1_conv": theirs.stem.conv1,
        "stem1_bn": theirs.stem.norm1,
        "stem2_conv": theirs.stem.conv2,
        "head_norm": theirs.head.norm,
        "head": theirs.head.pre_logits.fc,
        "predictions": theirs.head.fc,
    }
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name in fixed:
            carry(layer, fixed[layer.name])
            continue
        stage, block, part = layer.name.split("_", 2)
        block = theirs.stages[int(stage[5:]) - 1].blocks[int(block[5:]) - 1]
        known = dict(block.named_modules())
        if part == "attention":
            carry_attention(layer, block.attn)
            continue
        names = [f"{name}.norm" if f"{name}.norm" in known else name for name in COATNET[part]]
        carry(layer, *(known[name] for name in names))
    x = images(side)
    assert_close(np.asarray(model(x)), test_torchvision.outputs(theirs, x), 1e-4)


def carry_attention(layer, theirs):
    """Theirs has query, key and value of a head side by side, and distances query - key."""
    heads, dim = theirs.num_heads, theirs.dim_head
    kernel, bias = test_torchvision.weights_of(theirs.qkv)
    kernel = kernel.reshape(-1, heads, 3, dim).transpose(0, 2, 1, 3)
    layer.qkv.set_weights(
        [
            kernel.reshape(layer.qkv.kernel.shape),
            bias.reshape(heads, 3, dim).transpose(1, 0, 2).reshape(-1),
        ]
    )
    carry(layer.project, theirs.proj)
    theirs.rel_pos.relative_position_bias_table.data.normal_()
    table = theirs.rel_pos.relative_position_bias_table.detach().numpy()
    layer.tables[0].assign(table.reshape(layer.tables[0].shape)[::-1, ::-1])


def multiply_adds(model, size):
    """Of all convolutions and dense layers, counted while timm's network runs without memory."""
    total = 0

    def count(module, _, output):
        nonlocal total
        positions = output.shape[2:].numel() if output.ndim == 4 else 1
        total += module.weight.numel() * positions

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    model.eval()(torch.empty(1, 3, size, size, device="meta"))
    return total


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs", "size"),
    [
        *[(f"EfficientNetLite{n}", f"tf_efficientnet_lite{n}", 224 + 16 * n) for n in range(5)],
        *[(f"EfficientNetB{n}", f"tf_efficientnet_b{n}", 224 + 16 * n) for n in range(8)],
        *[(f"ResNetRS{n}", f"resnetrs{n}", 128) for n in (50, 101, 152, 200, 270, 350, 420)],
        *[(f"ResNet{n}D", f"resnet{n}d", 128) for n in (18, 34, 50, 101, 152)],
        ("ResNeXt101", "resnext101_32x4d", 128),
        ("SEResNeXt101", "seresnext101_32x4d", 128),
        ("InceptionV4", "inception_v4", 128),
        ("MobileNetV4ConvMedium", "mobilenetv4_conv_medium", 128),
        ("MobileNetV4ConvLarge", "mobilenetv4_conv_large", 128),
        ("EfficientNetV2XL", "tf_efficientnetv2_xl", 128),
    ],
)
def test_multiply_adds_and_parameters_of_the_large_ones(ours, theirs, size):
    with torch.device("meta"):
        reference = timm.create_model(theirs)
    with symbolic():
        model = getattr(keras_archs, ours)(input_shape=(size, size, 3))
        trainable = sum(np.prod(w.shape, dtype=int) for w in model.trainable_weights)
        assert trainable == sum(parameter.numel() for parameter in reference.parameters())
        assert keras_archs.profile(model).multiply_adds == multiply_adds(reference, size)
