"""The networks that keras.applications lacks, against torchvision's with random weights.

Runs where the extra `parity` is installed (`make parity`).
"""

import numpy as np
import pytest

import keras_archs
from tests.keras_archs.helpers import assert_close, images

torch = pytest.importorskip("torch")
# The CPU build of torch cannot load torchvision's compiled half. The Python half, which is all that
# is needed here, wants two of its operators declared.
library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
models = pytest.importorskip("torchvision").models

TOLERANCE = 1e-4


def random_torch_model(name):
    return randomize(getattr(models, name)(weights=None).eval())


def randomize(model):
    """Moves biases, scales and moving statistics off their zeros and ones, so that they matter.

    timm's residual branches and attention blocks begin with zeros that would hide all of them.
    """
    torch.manual_seed(0)
    for parameter_name, tensor in model.state_dict().items():
        scale = tensor.ndim == 1 and parameter_name.endswith("weight")
        zero = tensor.is_floating_point() and not tensor.any()
        if scale or parameter_name.endswith("running_var"):
            tensor.uniform_(0.8, 1.2)
        elif zero or parameter_name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.1)
    return model


def weights_of(module):
    """A torch module's weights in Keras' order and layout."""
    if isinstance(module, torch.nn.BatchNorm2d):
        tensors = [module.weight, module.bias, module.running_mean, module.running_var]
    elif module.weight.ndim == 1:
        tensors = [module.weight, module.bias]
    else:
        # Kernels: (out, in, ...) there, (..., in, out) here.
        axes = (*range(2, module.weight.ndim), 1, 0)
        tensors = [module.weight.permute(axes)]
        tensors += [] if module.bias is None else [module.bias]
    return [tensor.detach().numpy() for tensor in tensors]


def outputs(module, x):
    with torch.no_grad():
        result = module(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    return result.transpose(0, 2, 3, 1) if result.ndim == 4 else result


def resnet_module(name):
    """torchvision's name of our layer: conv2_block1_0_bn is layer1.0.downsample.1."""
    if name == "predictions":
        return "fc"
    if name.startswith("conv1_"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[name]
    stage, block, index, kind = name.split("_")
    prefix = f"layer{int(stage[4:]) - 1}.{int(block[5:]) - 1}"
    if index == "0":
        return f"{prefix}.downsample.{0 if kind == 'conv' else 1}"
    return f"{prefix}.{kind}{index}"


@pytest.mark.full
@pytest.mark.parametrize("name", ["ResNet18", pytest.param("ResNet34", marks=pytest.mark.slow)])
def test_resnet(name):
    theirs = random_torch_model(name.lower())
    ours = getattr(keras_archs, name)(input_shape=(None, None, 3), classifier_activation=None)
    for layer in ours.layers:
        if layer.weights:
            layer.set_weights(weights_of(theirs.get_submodule(resnet_module(layer.name))))
    for size in (64, 97):
        assert_close(np.asarray(ours(images(size))), outputs(theirs, images(size)), TOLERANCE)
    assert sum(np.prod(w.shape) for w in ours.trainable_weights) == sum(
        parameter.numel() for parameter in theirs.parameters()
    )


@pytest.mark.full
@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch_norm"])
@pytest.mark.parametrize(
    "name",
    ["VGG11", *[pytest.param(n, marks=pytest.mark.slow) for n in ("VGG13", "VGG16", "VGG19")]],
)
def test_vgg(name, batch_norm):
    theirs = random_torch_model(name.lower() + "_bn" * batch_norm)
    ours = getattr(keras_archs, name)(include_top=False, batch_norm=batch_norm)
    with_weights = [layer for layer in ours.layers if layer.weights]
    modules = [m for m in theirs.features if isinstance(m, torch.nn.Conv2d | torch.nn.BatchNorm2d)]
    for layer, module in zip(with_weights, modules, strict=True):
        layer.set_weights(weights_of(module))
    for size in (64, 97):
        features = outputs(theirs.features, images(size))
        assert_close(np.asarray(ours(images(size))), features, TOLERANCE)


@pytest.mark.full
@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch_norm"])
def test_vgg_top(batch_norm):
    theirs = random_torch_model("vgg11" + "_bn" * batch_norm)
    ours = keras_archs.VGG11(batch_norm=batch_norm, classifier_activation=None)
    with_weights = [layer for layer in ours.layers if layer.weights]
    kinds = torch.nn.Conv2d | torch.nn.BatchNorm2d | torch.nn.Linear
    modules = [m for m in theirs.modules() if isinstance(m, kinds)]
    for layer, module in zip(with_weights, modules, strict=True):
        weights = weights_of(module)
        if layer.name == "fc1":  # the map is flattened by channel there, by row here
            kernel = weights[0].reshape(512, 7, 7, 4096)
            weights[0] = kernel.transpose(1, 2, 0, 3).reshape(-1, 4096)
        layer.set_weights(weights)
    x = images(224)
    assert_close(np.asarray(ours(x)), outputs(theirs, x), TOLERANCE)
    trainable = sum(np.prod(w.shape) for w in ours.trainable_weights)
    assert trainable == sum(parameter.numel() for parameter in theirs.parameters())


def googlenet_module(name):
    """torchvision's name of our layer: inception_3a_5x5_reduce_bn is inception3a.branch3.0.bn."""
    if name == "predictions":
        return "fc"
    stem, kind = name.rsplit("_", 1)
    fixed = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}
    for ours, theirs in (("auxiliary_4a", "aux1"), ("auxiliary_4d", "aux2")):
        heads = {ours: f"{theirs}.fc2", f"{ours}_fc": f"{theirs}.fc1"}
        if name in heads:
            return heads[name]
        fixed[f"{ours}_conv"] = f"{theirs}.conv"
    if stem in fixed:
        return f"{fixed[stem]}.{kind}"
    _, block, part = stem.split("_", 2)
    branches = {
        "1x1": "branch1",
        "3x3_reduce": "branch2.0",
        "3x3": "branch2.1",
        "5x5_reduce": "branch3.0",
        "5x5": "branch3.1",
        "pool_proj": "branch4.1",
    }
    return f"inception{block}.{branches[part]}.{kind}"


def googlenet(large_kernel, auxiliary=False):
    theirs = models.googlenet(weights=None, aux_logits=auxiliary, init_weights=False).eval()
    theirs.maxpool4 = torch.nn.MaxPool2d(3, stride=2, ceil_mode=True)  # 2x2 there, 3x3 in table 1
    for name, module in theirs.named_modules():
        if name.endswith("branch3.1"):
            channels = module.conv.in_channels, module.conv.out_channels
            module.conv = torch.nn.Conv2d(
                *channels, large_kernel, padding=large_kernel // 2, bias=False
            )
    return randomize(theirs)


@pytest.mark.full
@pytest.mark.parametrize("large_kernel", [pytest.param(3, marks=pytest.mark.slow), 5])
def test_inception_v1(large_kernel):
    theirs = googlenet(large_kernel)
    ours = keras_archs.InceptionV1(
        batch_norm=True,
        large_kernel=large_kernel,
        input_shape=(None, None, 3),
        classifier_activation=None,
    )
    for layer in ours.layers:
        if layer.weights:
            layer.set_weights(weights_of(theirs.get_submodule(googlenet_module(layer.name))))
    for size in (64, 96):
        assert_close(np.asarray(ours(images(size))), outputs(theirs, images(size)), TOLERANCE)


@pytest.mark.full
def test_inception_v1_of_the_paper():
    """With biases and local response normalisation where torchvision has batch norms."""
    theirs = googlenet(5)
    for module in theirs.modules():
        if isinstance(module, type(theirs.conv1)):
            torch.nn.init.kaiming_normal_(module.conv.weight)
            module.conv.bias = torch.nn.Parameter(torch.randn(module.conv.out_channels))
            module.bn = torch.nn.Identity()
    norms = [torch.nn.LocalResponseNorm(5, 1e-4, 0.75) for _ in range(2)]
    theirs.maxpool1 = torch.nn.Sequential(theirs.maxpool1, norms[0])
    theirs.maxpool2 = torch.nn.Sequential(norms[1], theirs.maxpool2)
    ours = keras_archs.InceptionV1(input_shape=(None, None, 3), classifier_activation=None)
    for layer in ours.layers:
        if layer.weights:
            layer.set_weights(weights_of(theirs.get_submodule(googlenet_module(layer.name))))
    for size in (64, 96):
        x = 128 * images(size)  # as large as pixels: the normalisation is 1 for small values
        expected = outputs(theirs, x)
        assert_close(np.asarray(ours(x)), expected, TOLERANCE)
    theirs.maxpool1, theirs.maxpool2 = theirs.maxpool1[0], theirs.maxpool2[1]
    assert np.abs(outputs(theirs, x) - expected).max() > 0.01 * np.abs(expected).max()


@pytest.mark.full
@pytest.mark.parametrize("size", [224, pytest.param(256, marks=pytest.mark.slow)])
def test_inception_v1_auxiliary_heads(size):
    theirs = googlenet(3, auxiliary=True)
    # The paper averages 5x5 pixels at stride 3, torchvision whatever gives 4x4: nothing more here.
    for head in (theirs.aux1, theirs.aux2):
        head.register_forward_pre_hook(
            lambda _, x: torch.nn.functional.avg_pool2d(x[0], 5, stride=3)
        )
    ours = keras_archs.InceptionV1(
        batch_norm=True,
        auxiliary=True,
        large_kernel=3,
        input_shape=(size, size, 3),
        classifier_activation=None,
    )
    for layer in ours.layers:
        if layer.weights:
            weights = weights_of(theirs.get_submodule(googlenet_module(layer.name)))
            if layer.name.endswith("_fc"):  # flattened by channel there, by row here
                kernel = weights[0].reshape(128, 4, 4, 1024)
                weights[0] = kernel.transpose(1, 2, 0, 3).reshape(2048, 1024)
            layer.set_weights(weights)
    theirs.training = True  # of the network alone: its layers stay as they are at inference
    x = images(size)
    with torch.no_grad():
        top, second, first = theirs(torch.from_numpy(x).permute(0, 3, 1, 2))
    for got, expected in zip(ours(x), (top, first, second), strict=True):
        assert_close(np.asarray(got), expected.numpy(), TOLERANCE)


@pytest.mark.full
def test_local_response_normalization():
    x = 30 * images(6).repeat(4, axis=-1)
    layer = keras_archs.layers.local_response.LocalResponseNormalization()
    assert_close(np.asarray(layer(x)), outputs(torch.nn.LocalResponseNorm(5, 1e-4, 0.75), x), 1e-5)
