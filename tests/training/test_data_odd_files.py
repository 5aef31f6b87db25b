"""Image files of every kind that people have: each reader gives the pixels that Pillow gives."""

import io
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from tflite_export.calibration import calibration_set, evaluation_set
from tflite_export.runtime.images import read_image
from training.data import Augmentation, make_batches, open_dataset
from training.data.decode.decode import decode, find_flaw
from training.data.prepare import prepare

ORIENTATION = 0x0112
HEIGHT, WIDTH = 37, 61


def picture(mode: str = "RGB") -> Image.Image:
    """A smooth picture with edges, in no way like one of its own turns."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    waves = np.stack([np.sin(rows / 7), np.cos(columns / 5), np.sin((rows + columns) / 11)], -1)
    array = (127 + 100 * waves).astype(np.uint8)
    array[3:15, 5:30] = (250, 3, 40)
    image = Image.fromarray(array)
    if mode in {"RGBA", "LA"}:
        image = image.convert(mode)
        image.putalpha(Image.fromarray(np.uint8(4 * columns)))
        return image
    if mode == "I;16":
        return Image.fromarray(np.uint16(rows * 1700 + columns))
    return image.quantize(16) if mode == "P" else image.convert(mode)


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    picture(mode).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data


def xmp_in_png(orientation: int) -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", f'<x tiff:Orientation="{orientation}"/>')
    return text


def exif_at_the_end_of_png(orientation: int) -> bytes:
    """Where exiftool puts it: between the pixels and the last chunk, which has 12 bytes."""
    turned, plain = saved("PNG", exif=exif(orientation)), saved("PNG")
    start = turned.index(b"eXIf") - 4
    chunk = turned[start : start + 12 + int.from_bytes(turned[start : start + 4])]
    return plain[:-12] + chunk + plain[-12:]


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SECOND: dict[str, Any] = {"save_all": True, "append_images": [picture().rotate(180)]}
FILES = {
    **{f"jpeg, orientation {i}": saved("JPEG", exif=exif(i)) for i in range(10)},
    **{f"png, orientation {i}": saved("PNG", exif=exif(i)) for i in range(2, 9)},
    **{f"webp, orientation {i}": saved("WEBP", exif=exif(i)) for i in range(2, 9)},
    **{f"tiff, orientation {i}": saved("TIFF", exif=exif(i)) for i in range(2, 9)},
    **{f"jpeg, quality {q}": saved("JPEG", quality=q) for q in (30, 75, 95, 100)},
    **{f"jpeg, chroma {s}": saved("JPEG", subsampling=s) for s in (0, 1, 2)},
    "jpeg of several pictures": saved("MPO", exif=exif(6), **SECOND),
    "jpeg, orientation in xmp": saved("JPEG", xmp=b'<x tiff:Orientation="8"/>'),
    "jpeg with a profile": saved("JPEG", icc_profile=SRGB),
    "jpeg with a comment": saved("JPEG", comment=b"a comment"),
    "jpeg, progressive": saved("JPEG", progressive=True),
    **{f"jpeg, {mode}": saved("JPEG", mode) for mode in ("L", "CMYK")},
    **{f"png, {m}": saved("PNG", m) for m in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "png, orientation at the end": exif_at_the_end_of_png(6),
    "png, orientation in xmp": saved("PNG", pnginfo=xmp_in_png(3)),
    "png with a profile": saved("PNG", icc_profile=SRGB),
    "png with a wrong profile": saved("PNG", "L", icc_profile=SRGB),
    "png, transparent palette": saved("PNG", "P", transparency=bytes(range(0, 160, 10))),
    "png, transparent colour": saved("PNG", transparency=(250, 3, 40)),
    "png, animated": saved("PNG", **SECOND),
    **{f"webp, {mode}": saved("WEBP", mode) for mode in ("RGB", "RGBA")},
    "webp, lossless": saved("WEBP", "RGBA", lossless=True),
    "webp, animated": saved("WEBP", **SECOND),
    "webp with a profile": saved("WEBP", icc_profile=SRGB),
    "gif": saved("GIF", "P"),
    "gif, transparent": saved("GIF", "P", transparency=2),
    "gif, animated": saved("GIF", **SECOND),
    **{f"bmp, {mode}": saved("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")},
    **{f"tiff, {m}": saved("TIFF", m) for m in ("1", "L", "LA", "P", "RGBA", "CMYK", "I;16")},
    "tiff, lzw": saved("TIFF", compression="tiff_lzw"),
}
SUFFIXES = {"jpeg": ".jpg", "tiff": ".tif"}


def upright(encoded: bytes) -> np.ndarray:
    """The pixels by Pillow, uint8 [height, width, 3]; of 16 bits the high byte."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.uint8(np.asarray(image) >> 8))
    return np.asarray(image.convert("RGB"))


def assert_same(name: str, image: np.ndarray, expected: np.ndarray) -> None:
    assert image.dtype == np.uint8
    limit = 2 if name.startswith("jpeg") else 0
    np.testing.assert_allclose(image.astype(int), expected.astype(int), rtol=0, atol=limit)


@tf.function(
    input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([4], tf.int32)], autograph=False
)
def cut_out(encoded: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    return decode(encoded, lambda *_: window)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # of the reference
@pytest.mark.parametrize("name", FILES)
def test_every_decoder_gives_the_upright_pixels_of_pillow(name, tmp_path):
    encoded, expected = FILES[name], upright(FILES[name])
    height, width, _ = expected.shape
    assert find_flaw(encoded) is None
    assert_same(name, decode(tf.constant(encoded)).numpy(), expected)
    assert_same(name, cut_out(encoded, [0, 0, height, width]).numpy(), expected)
    part = cut_out(encoded, [4, 9, height // 2, width // 3]).numpy()
    assert_same(name, part, expected[4 : 4 + height // 2, 9 : 9 + width // 3])
    path = tmp_path / "image"
    path.write_bytes(encoded)
    assert_same(name, read_image(path, expected.shape), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_any_window_is_that_of_the_upright_image(orientation):
    encoded = saved("JPEG", exif=exif(orientation), subsampling=2)
    expected = upright(encoded)
    random = np.random.RandomState(orientation)
    for _ in range(40):
        height, width = random.randint(1, expected.shape[:2])
        top, left = random.randint(0, np.array(expected.shape[:2]) - (height, width) + 1)
        image = cut_out(encoded, [top, left, height, width]).numpy()
        assert_same("jpeg", image, expected[top : top + height, left : left + width])


def test_gray_images_are_turned_as_well():
    encoded = saved("JPEG", "L", exif=exif(6))
    image = decode(tf.constant(encoded), channels=1).numpy()
    assert_same("jpeg", np.repeat(image, 3, -1), upright(encoded))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "data", [b"Exif\0\0", b"Exif\0\0MM", b"Exif\0\0no header", b"Exif\0\0MM\0*\xff\xff\xff\x08"]
)
def test_damaged_exif_data_turn_nothing(kind, data, tmp_path):
    encoded = saved(kind, exif=data)
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    assert_same(kind.lower(), decode(tf.constant(encoded)).numpy(), expected)
    path = tmp_path / "image"
    path.write_bytes(encoded)
    assert_same(kind.lower(), read_image(path, expected.shape), expected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Each file is a class of its own, so that its label says which it is."""
    root = tmp_path_factory.mktemp("odd")
    for split, (number, (name, encoded)) in itertools.product(
        ("train", "validation", "test"), enumerate(FILES.items())
    ):
        kind = re.split(r"\W", name)[0]
        path = root / split / f"{number:02} {name}" / f"0{SUFFIXES.get(kind, f'.{kind}')}"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded)
    return f"image_folder:{root}"


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("form", [None, "tfrecord", "array_record"])
def test_datasets_give_them(folder, tmp_path, form):
    spec = prepare(folder, tmp_path / "out", format=form) if form else folder
    seen = set()
    for image, label in open_dataset(spec).train.as_numpy_iterator():
        name = list(FILES)[label]
        assert_same(name, image, upright(FILES[name]))
        seen.add(name)
    assert seen == set(FILES)


@pytest.mark.full
def test_training_takes_windows_of_them(folder):
    batches = make_batches(
        open_dataset(folder).splits["train"],
        image_size=16,
        channels=3,
        classes=len(FILES),
        batch_size=8,
        preprocess=lambda images: images,
        training=True,
        seed=0,
        augmentation=Augmentation(crop="resized", crop_scale=0.9),
    )
    for images, _ in batches.as_numpy_iterator():
        assert images.shape == (8, 16, 16, 3)
        assert (np.ptp(images, (1, 2, 3)) > 100).all()


@pytest.mark.full
def test_calibration_and_evaluation_see_them(folder):
    data, shape = open_dataset(folder), (24, 24, 3)
    root = Path(folder.partition(":")[2])
    paths = [next(path.iterdir()) for path in sorted((root / "test").iterdir())]
    expected = np.stack([read_image(path, shape) for path in paths]).astype(float)
    images, labels = evaluation_set(data, len(FILES), image_shape=shape)
    assert sorted(labels) == list(range(len(FILES)))
    np.testing.assert_allclose(images, expected[labels], rtol=0, atol=2.5)
    images = calibration_set(data, len(FILES), image_shape=shape)
    distance = np.abs(images[:, None] - expected).max((2, 3, 4))
    assert (distance.min(0) <= 2.5).all()


@pytest.mark.full
def test_no_library_writes_to_the_terminal(tmp_path):
    """Not of files that are cut off and left out, nor of profiles that libpng dislikes."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            path = tmp_path / name / f"{i}.png"
            path.write_bytes(FILES["png with a wrong profile"])
        whole = saved("JPEG")
        (tmp_path / name / "half.jpg").write_bytes(whole[: len(whole) // 2])
        (tmp_path / name / "header.jpg").write_bytes(whole[:12])
    program = (
        "from training.data import Augmentation, make_batches, open_dataset\n"
        f"data = open_dataset('image_folder:{tmp_path}', skip_corrupt=True)\n"
        "print(len(list(data.train)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "4\n"
    assert not re.search("JPEG|PNG", done.stderr), done.stderr
