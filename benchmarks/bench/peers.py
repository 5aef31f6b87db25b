"""Networks of other packages for the comparison."""

from typing import Any

# Our builders and timm's networks with the same layers and weights.
TIMM = {
    "VGG16": "vgg16",
    "InceptionV3": "inception_v3",
    "ResNet50": "resnet50",
    "SEResNet50": "seresnet50",
    "MobileNet": "mobilenetv1_100",
    "MobileNetV2": "mobilenetv2_100",
    "MobileNetV3Large": "mobilenetv3_large_100",
    "MobileNetV4ConvSmall": "mobilenetv4_conv_small",
    "EfficientNetB0": "efficientnet_b0",
    "CoAtNet0": "coatnet_0_224",
}


def timm_model(name: str, size: int) -> Any:
    """Builds timm's network that corresponds to our builder, with random weights."""
    import torch  # noqa: PLC0415  # only timm's process needs torch

    try:
        import timm  # noqa: PLC0415
    except RuntimeError:  # torchvision misses operators that a CPU build of torch lacks
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor x) -> Tensor")
        import timm  # noqa: PLC0415

    arguments = {"img_size": size} if name.startswith("CoAtNet") else {}
    return timm.create_model(TIMM[name], pretrained=False, **arguments)


KERAS_HUB = {"ResNet50"}


def keras_hub_model(name: str, shape: tuple[int, int, int]) -> Any:
    """Builds keras-hub's classifier that corresponds to our builder, with random weights."""
    import keras_hub  # noqa: PLC0415  # slow to import

    assert name in KERAS_HUB
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=shape,
    )
    return keras_hub.models.ResNetImageClassifier(backbone, num_classes=1000, activation="softmax")
