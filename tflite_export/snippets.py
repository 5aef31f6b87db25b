"""How to call a file from Python, C++ and Kotlin, with its own sizes and numbers filled in."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from .errors import input_error
from .images import PICTURES
from .metadata import LABELS, Metadata, read_metadata


@dataclass(frozen=True)
class Snippets:
    """Programs that read pixels, prepare them, run the file and name the best class.

    Attributes:
        python: for the packages ai-edge-litert, numpy and pillow.
        cpp: for LiteRT's C++ interpreter (the headers' folder is `tflite` in LiteRT,
            `tensorflow/lite` in TensorFlow).
        kotlin: for Android with `com.google.ai.edge.litert:litert`.
    """

    python: str
    cpp: str
    kotlin: str

    def __str__(self) -> str:
        languages = {"Python": self.python, "C++": self.cpp, "Kotlin": self.kotlin}
        return "\n".join(
            f"{language}:\n\n```{language.lower()}\n{program}```\n"
            for language, program in languages.items()
        )

    @classmethod
    def of(cls, content: bytes, name: str = "model.tflite") -> "Snippets":
        """The snippets for the content of a file of that name.

        Raises:
            InputError: the file has no metadata or no signature, or takes no pictures.
        """
        metadata = read_metadata(content)
        if metadata is None:
            raise input_error("content must have metadata, got a file without.")
        if (channels := metadata.image_shape[-1]) not in PICTURES:
            raise input_error(f"content must take pictures of 1 or 3 channels, got {channels}.")
        interpreter = Interpreter(model_content=content)
        signatures = interpreter.get_signature_list()
        if not signatures:
            raise input_error("content must have a signature, got a file without.")
        key, sides = next(iter(signatures.items()))
        (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
        classes = int(target["shape"][-1])
        types = {tensor["dtype"] for tensor in (source, target)}
        if not types <= {np.float32, np.int8, np.uint8}:
            raise input_error(f"content must take and give float32, int8 or uint8, got {types}.")
        facts = _Facts(json.dumps(name), metadata, classes, _Tensor.of(source), _Tensor.of(target))
        names = key, sides["inputs"][0], sides["outputs"][0]
        return cls(_python(facts, *names), _cpp(facts), _kotlin(facts))


@dataclass(frozen=True)
class _Tensor:
    """Type and quantization of the input or the output; a scale of 0 means none."""

    dtype: str
    scale: float
    zero: int

    @classmethod
    def of(cls, details: dict[str, Any]) -> "_Tensor":
        return cls(np.dtype(details["dtype"]).name, *details["quantization"])

    @property
    def limits(self) -> tuple[int, int]:
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max)


@dataclass(frozen=True)
class _Facts:
    name: str  # in quotes
    metadata: Metadata
    classes: int
    source: _Tensor
    target: _Tensor

    @property
    def scores(self) -> str:
        """What comes out, in words."""
        ending = self.metadata.activation
        if self.metadata.probabilities:
            one, several = "probability", "probabilities"
        else:
            one, several = "logit", f"logits for a {ending}" if ending else "logits"
        return f"{one} of the second class" if self.classes == 1 else several

    def per_channel(self, suffix: str = "") -> tuple[str, str]:
        """Mean and scale of each channel, in the order of the input."""
        channels = self.metadata.image_shape[-1]
        both = [np.broadcast_to(values, channels) for values in self.metadata.constants()]
        mean, scale = (", ".join(f"{value!s}{suffix}" for value in values) for values in both)
        return mean, scale


def _python(facts: _Facts, key: str, source: str, target: str) -> str:
    height, width, channels = facts.metadata.image_shape
    mean, scale = facts.per_channel()
    mode = "L" if channels == 1 else "RGB"
    lines = [
        "import zipfile",
        "",
        "import numpy as np",
        "from ai_edge_litert.interpreter import Interpreter",
        "from PIL import Image, ImageOps",
        "",
        f'FILE, IMAGE = {facts.name}, "image.jpg"',
        f'run = Interpreter(FILE).get_signature_runner("{key}")',
        f'image = ImageOps.exif_transpose(Image.open(IMAGE)).convert("{mode}")',
    ]
    if facts.metadata.crop:
        lines += [
            f"side = max(1, round({facts.metadata.crop} * min(image.size)))",
            "left, top = (image.width - side) // 2, (image.height - side) // 2",
            "image = image.crop((left, top, left + side, top + side))",
        ]
    lines += [
        f"image = image.resize(({width}, {height}), Image.Resampling.BILINEAR)",
        f"values = np.float32(image).reshape(1, {height}, {width}, {channels})  # 0..255",
    ]
    if facts.metadata.bgr:
        lines.append("values = values[..., ::-1]  # blue, green, red")
    lines.append(f"values = (values - np.float32([{mean}])) / np.float32([{scale}])")
    if facts.source.dtype != "float32":
        low, high = facts.source.limits
        steps = f"np.round(values / {facts.source.scale or 1.0}) + {facts.source.zero}"
        lines.append(f"values = np.clip({steps}, {low}, {high}).astype(np.{facts.source.dtype})")
    lines.append(f'scores = run({source}=values)["{target}"][0].astype(np.float32)')
    if facts.target.dtype != "float32":
        scaled = f"np.float32({facts.target.scale}) * (scores - {facts.target.zero})"
        lines.append(f"scores = {scaled}")
    best, score = "scores.argmax()", "scores[best]"
    if facts.classes == 1:
        best, score = f"scores[0] > {0.5 if facts.metadata.probabilities else 0}", "scores[0]"
    lines.append(f"best = int({best})  # scores: {facts.scores}")
    if facts.metadata.class_names:
        lines += [
            f'labels = zipfile.ZipFile(FILE).read("{LABELS}").decode().split("\\n")',
            f"print(labels[best], {score})",
        ]
    else:
        lines = [*lines[2:], f"print(best, {score})"]  # without zipfile
    return "\n".join([*lines, ""])


_CPP = {"float32": "float", "int8": "std::int8_t", "uint8": "std::uint8_t"}


def _cpp(facts: _Facts) -> str:
    height, width, channels = facts.metadata.image_shape
    mean, scale = facts.per_channel("f")
    source, target = _CPP[facts.source.dtype], _CPP[facts.target.dtype]
    order = "BGR" if facts.metadata.bgr else "RGB" if channels == 3 else "gray"
    stored = "value"
    cut = ""
    if facts.metadata.crop:
        cut = (
            f"\n// They are of the centred square of {facts.metadata.crop} of the image's shorter"
            " side, resized."
        )
    if source != "float":
        low, high = facts.source.limits
        steps = f"std::nearbyint(value / {facts.source.scale or 1.0}f) + {facts.source.zero}"
        stored = f"static_cast<{source}>(std::clamp({steps}, {low}.f, {high}.f))"
    score = "output[i]"
    if target != "float":
        score = f"{facts.target.scale}f * (output[i] - {facts.target.zero})"
    return f"""\
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "tflite/interpreter.h"
#include "tflite/kernels/register.h"
#include "tflite/model.h"

// pixels: {height} x {width} x {channels}, row by row, {order}, 0..255. Gives {facts.scores}.{cut}
std::vector<float> classify(const std::vector<std::uint8_t>& pixels) {{
  static const auto model = tflite::FlatBufferModel::BuildFromFile({facts.name});
  static const auto interpreter = [] {{
    std::unique_ptr<tflite::Interpreter> made;
    tflite::ops::builtin::BuiltinOpResolver resolver;
    tflite::InterpreterBuilder(*model, resolver)(&made);
    made->AllocateTensors();
    return made;
  }}();
  const float mean[] = {{{mean}}}, scale[] = {{{scale}}};
  auto* input = interpreter->typed_input_tensor<{source}>(0);
  for (std::size_t i = 0; i < pixels.size(); ++i) {{
    const float value = (pixels[i] - mean[i % {channels}]) / scale[i % {channels}];
    input[i] = {stored};
  }}
  interpreter->Invoke();
  const auto* output = interpreter->typed_output_tensor<{target}>(0);
  std::vector<float> scores({facts.classes});
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = {score};
  return scores;
}}
"""


def _kotlin(facts: _Facts) -> str:
    height, width, channels = facts.metadata.image_shape
    mean, scale = facts.per_channel("f")
    size = {side: 4 if side.dtype == "float32" else 1 for side in (facts.source, facts.target)}
    if channels == 1:
        red, green, blue = (f"(pixel shr {shift} and 255)" for shift in (16, 8, 0))
        values = f"""\
val gray = 0.299f * {red} + 0.587f * {green} + 0.114f * {blue}
            val value = (gray - mean[0]) / scale[0]"""
        loop = "for (pixel in pixels) {"
    else:
        shift = "8 * c" if facts.metadata.bgr else "16 - 8 * c"
        values = f"val value = ((pixel shr ({shift}) and 255) - mean[c]) / scale[c]"
        loop = "for (pixel in pixels) for (c in 0 until 3) {"
    put = "input.putFloat(value)"
    if facts.source.dtype != "float32":
        low, high = facts.source.limits
        steps = f"Math.round(value / {facts.source.scale or 1.0}f) + {facts.source.zero}"
        put = f"input.put(({steps}).coerceIn({low}, {high}).toByte())"
    image, cropped = "bitmap", ""
    if facts.metadata.crop:
        image = "square"
        cropped = f"""\
        val side = Math.round({facts.metadata.crop}f * minOf(bitmap.width, bitmap.height))
            .coerceAtLeast(1)
        val (left, top) = (bitmap.width - side) / 2 to (bitmap.height - side) / 2
        val square = Bitmap.createBitmap(bitmap, left, top, side, side)
"""
    name = facts.name.replace("$", r"\$")  # which begins a variable in Kotlin's texts
    owners = f" of {facts.classes} classes" if facts.classes > 1 else ""
    get = "output.float"
    if facts.target.dtype != "float32":
        byte = "output.get()" if facts.target.dtype == "int8" else "(output.get().toInt() and 255)"
        get = f"{facts.target.scale}f * ({byte} - {facts.target.zero})"
    return f"""\
import android.content.Context
import android.graphics.Bitmap
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.tensorflow.lite.Interpreter

// build.gradle: implementation("com.google.ai.edge.litert:litert:1.4.2") and
// androidResources {{ noCompress += "tflite" }}. The names: unzip {facts.name} {LABELS}
class Classifier(context: Context) {{
    private val interpreter = context.assets.openFd({name}).use {{
        val file = FileInputStream(it.fileDescriptor).channel
        Interpreter(file.map(FileChannel.MapMode.READ_ONLY, it.startOffset, it.declaredLength))
    }}
    private val mean = floatArrayOf({mean})
    private val scale = floatArrayOf({scale})
    private val input = buffer({height * width * channels * size[facts.source]})
    private val output = buffer({facts.classes * size[facts.target]})

    /** The {facts.scores}{owners}. */
    fun classify(bitmap: Bitmap): FloatArray {{
        val pixels = IntArray({height * width})
{cropped}        Bitmap.createScaledBitmap({image}, {width}, {height}, true)
            .getPixels(pixels, 0, {width}, 0, 0, {width}, {height})
        input.rewind()
        {loop}
            {values}
            {put}
        }}
        input.rewind()
        output.rewind()
        interpreter.run(input, output)
        output.rewind()
        return FloatArray({facts.classes}) {{ {get} }}
    }}

    private fun buffer(bytes: Int) =
        ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
}}
"""
