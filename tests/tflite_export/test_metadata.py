"""What is in the file, seen with zipfile, LiteRT's schema and readers of standard metadata."""

import contextlib
import io
import json
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from flatbuffers.table import Table
from hypothesis import given
from hypothesis import strategies as st

from keras_archs.errors import InputError
from keras_archs.preprocessing import CAFFE, TF, TORCH
from tests.tflite_export.files import (
    NAMES,
    file_of,
    metadata,
    open_batch_file,
    pixels,
    uint8_file,
)
from tflite_export import Classifier, Metadata, attach, read_metadata

FILES = [lambda: file_of("none"), lambda: file_of("int8"), uint8_file, open_batch_file]


def buffers(content):
    """Place and bytes of each buffer of the file that is not empty."""
    model = schema.Model.GetRootAs(content)
    start = np.frombuffer(content, np.uint8).ctypes.data
    arrays = [model.Buffers(i).DataAsNumpy() for i in range(model.BuffersLength())]
    return [(a.ctypes.data - start, a.tobytes()) for a in arrays if isinstance(a, np.ndarray)]


def entries(content):
    model = schema.Model.GetRootAs(content)
    return {
        model.Metadata(i).Name(): model.Buffers(model.Metadata(i).Buffer()).DataAsNumpy().tobytes()
        for i in range(model.MetadataLength())
    }


def constants(content):
    """Values of each tensor that has some, as the interpreter finds them, by name."""
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    found = {}
    for tensor in interpreter.get_tensor_details():
        with contextlib.suppress(ValueError):  # it is computed
            found[tensor["name"]] = interpreter.get_tensor(tensor["index"])
    return found


@pytest.mark.parametrize("make", FILES)
def test_the_network_stays_the_same_bit_by_bit(make):
    before = make()
    after = attach(before, metadata())
    assert len(after) - len(before) < 2000
    images = np.random.default_rng(0).normal(0, 1, (3, 24, 24, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        Classifier(after).predict(images), Classifier(before).predict(images)
    )
    old, new = constants(before), constants(after)
    assert old.keys() == new.keys()
    assert len(old) >= 8
    for name, values in old.items():
        np.testing.assert_array_equal(new[name], values)
    signatures = [Interpreter(model_content=c).get_signature_list() for c in (before, after)]
    assert signatures[0] == signatures[1]


@pytest.mark.parametrize("make", FILES)
def test_the_file_is_a_tflite_file_with_one_entry_more_and_aligned_buffers(make):
    before = make()
    after = attach(before, metadata())
    assert after[4:8] == b"TFL3"
    old, new = entries(before), entries(after)
    assert {name: new[name] for name in old} == old
    assert new.keys() - old.keys() == {b"TFLITE_METADATA"}
    found = buffers(after)
    assert {place % 16 for place, _ in found} == {0}
    kept = [data for _, data in found if data != new[b"TFLITE_METADATA"]]
    assert sorted(kept) == sorted(data for _, data in buffers(before))


class Fields(Table):
    """Fields of a table by their numbers in metadata_schema.fbs."""

    def at(self, slot):
        offset = self.Offset(4 + 2 * slot)
        assert offset, f"no field {slot}"
        return self.Pos + offset

    def table(self, slot):
        return Fields(self.Bytes, self.Indirect(self.at(slot)))

    def only(self, slot):
        """The table that is alone in a list."""
        place = self.Indirect(self.at(slot))
        assert int.from_bytes(self.Bytes[place : place + 4], "little") == 1
        return Fields(self.Bytes, self.Indirect(place + 4))

    def text(self, slot):
        return self.String(self.at(slot)).decode()

    def byte(self, slot):
        return self.Bytes[self.at(slot)]

    def floats(self, slot):
        place = self.Indirect(self.at(slot))
        count = int.from_bytes(self.Bytes[place : place + 4], "little")
        return np.frombuffer(self.Bytes, "<f4", count, place + 4)


@pytest.mark.parametrize(("bgr", "colours"), [(False, 1), (True, None)])
def test_standard_metadata_name_colours_normalization_and_labels(bgr, colours):
    found = entries(attach(file_of("none"), metadata(bgr=bgr)))[b"TFLITE_METADATA"]
    assert found[4:8] == b"M001"
    model = Fields(found, int.from_bytes(found[:4], "little"))
    graph = model.only(3)  # SubGraphMetadata
    image, scores = graph.only(2), graph.only(3)  # TensorMetadata
    content, unit, labels = image.table(3), image.only(4), scores.only(6)
    assert content.byte(0) == 2  # ImageProperties
    if colours:
        assert content.table(1).byte(0) == colours  # RGB
    else:
        assert not content.table(1).Offset(4)  # unknown
    assert unit.byte(0) == 1  # NormalizationOptions
    np.testing.assert_allclose(unit.table(1).floats(0), [123.675, 116.28, 103.53])
    np.testing.assert_allclose(unit.table(1).floats(1), [58.395, 57.12, 57.375])
    assert (labels.text(0), labels.byte(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    assert model.only(6).text(0) == "keras_archs.json"
    assert model.text(7) == "1.0.0"


def test_unzip_shows_labels_and_facts():
    content = attach(file_of("int8"), metadata(quantize="int8", crop=0.875))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().split() == [*NAMES]
        facts = json.loads(archive.read("keras_archs.json"))
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert (facts["quantize"], facts["crop"], facts["scale"]) == (
        "int8",
        0.875,
        [58.395, 57.12, 57.375],
    )


def test_the_same_network_gives_the_same_file():
    assert attach(file_of("none"), metadata()) == attach(file_of("none"), metadata())


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1)
numbers = st.floats(-300, 300, width=32)


@given(
    class_names=st.none() | st.tuples(names, names, names, names),
    mean=st.tuples(numbers) | st.tuples(numbers, numbers, numbers),
    scale=st.floats(0.01, 300) | st.tuples(*[st.floats(0.01, 300)] * 3),
    bgr=st.booleans(),
    probabilities=st.booleans(),
    activation=st.sampled_from([None, "softmax", "sigmoid"]),
    crop=st.none() | st.floats(0.1, 1),
)
def test_what_is_written_is_read_again(**facts):
    given_facts = metadata(**facts)
    content = attach(file_of("none"), given_facts)
    assert read_metadata(content) == given_facts
    assert Classifier(content).metadata == given_facts


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("preprocessing", [TF, TORCH, CAFFE])
def test_preprocessing_is_that_of_the_networks(preprocessing, channels):
    facts = Metadata(
        None, preprocessing.mean, preprocessing.scale, preprocessing.bgr, (24, 24, channels), "none"
    )
    images = pixels()[..., :channels]
    actual = facts.preprocess(images)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, preprocessing(images.astype(np.float32)))


def test_a_file_without_metadata_has_none():
    assert read_metadata(file_of("none")) is None
    assert read_metadata(b"") is None
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("labels.txt", "a\nb\n")
    assert read_metadata(zipped.getvalue()) is None
    content = attach(file_of("none"), metadata())
    assert read_metadata(content[:-30]) is None


@pytest.mark.full
@given(st.data())
def test_a_damaged_archive_is_metadata_none_or_one_error(data):
    content = bytearray(attach(file_of("none"), metadata()))
    start = len(file_of("none"))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(start, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):  # any other error fails
        found = read_metadata(bytes(content))
        assert found is None or isinstance(found, Metadata)


def test_metadata_of_a_later_version_and_damaged_ones_are_refused():
    content = attach(file_of("none"), metadata())
    for old, new, message in [
        (b'"format": 1', b'"format": 2', "format 2.*later keras-archs"),
        (b'"format"', b'"farmot"', "damaged"),
    ]:
        changed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(changed, "w") as copy:
            for name in archive.namelist():
                copy.writestr(name, archive.read(name).replace(old, new))
        with pytest.raises(InputError, match=message):
            read_metadata(changed.getvalue())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": NAMES[:3]}, "3 class names for 4 classes"),
        ({"image_shape": (32, 32, 3)}, r"\(32, 32, 3\), but the file takes \(24, 24, 3\)"),
        ({"class_names": ("a", "b", "c", "d\ne")}, r"one line each, got 'd\\ne'"),
        ({"class_names": ("a", "b", "c", "")}, "one line each, got ''"),
        ({"mean": (1.0, 2.0)}, "mean must hold 1 or 3 values, got 2"),
        ({"scale": (1.0, 0.0, 1.0)}, "scale must not be 0"),
        ({"image_shape": (24, 24)}, r"image_shape must be 3 integers .*got \(24, 24\)"),
        ({"activation": "tanh"}, "activation must be None, 'softmax' or 'sigmoid', got 'tanh'"),
        ({"crop": 1.5}, "crop must be None or above 0 and at most 1, got 1.5"),
        ({"preprocessing_inside": True}, "mean must be 0 and scale must be 1"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        attach(file_of("none"), metadata(**changes))


def zipped(*members):
    """A ZIP of (name or entry, content) alone; reading metadata needs no network in front."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def facts_of(**changes):
    facts = {"mean": [0], "scale": 1, "bgr": False, "image_shape": [8, 8, 3], "quantize": "none"}
    return "keras_archs.json", json.dumps({"format": 1, **facts, **changes})


def test_what_others_have_put_beside_does_not_matter():
    labels = ("labels.txt", "a\nb\n")
    expected = read_metadata(zipped(facts_of(), labels))
    assert expected.class_names == ("a", "b")
    image = ("image.jpg", b"\xff\xd8\xff")
    assert read_metadata(zipped(image, facts_of(), labels)) == expected
    named = zipped(("na_me.txt", b""), facts_of(), labels).replace(b"na_me", b"na\xefme")
    assert read_metadata(named) == expected


def test_members_that_could_swell_are_not_read():
    def swelling(name, content, size):
        entry = zipfile.ZipInfo(name)
        entry.compress_type = zipfile.ZIP_DEFLATED
        return entry, content + " " * size

    assert read_metadata(zipped(swelling(*facts_of(), 1000))) is None
    name, content = facts_of()
    assert read_metadata(zipped((name, content + " " * (16 << 20)))) is None
    assert read_metadata(zipped((name, content + " " * 1000))) is not None
    found = read_metadata(zipped(facts_of(), swelling("labels.txt", "a\nb\n", 1000)))
    assert found.class_names is None


@pytest.mark.parametrize(
    ("member", "message"),
    [
        *[
            (facts_of(image_shape=shape), "damaged")
            for shape in ([], [8, 8], [8, 8, 0], [8.0, 8.0, 3.0], "abc", None, [8, 8, 3, 1])
        ],
        *[(facts_of(crop=crop), "damaged") for crop in (0, -0.5, 1.5, float("nan"), "all")],
        (("keras_archs.json", "[" * 100_000), "damaged"),
        (("keras_archs.json", "[]"), "damaged"),
        (("keras_archs.json", b"\xff"), "damaged"),
        (facts_of(format=2), "later keras-archs"),
    ],
)
def test_facts_that_cannot_be_are_one_error(member, message):
    with pytest.raises(InputError, match=message):
        read_metadata(zipped(member))


def test_content_that_is_no_classifier_is_refused():
    for content in (b"no network at all", file_of("none")[:3000]):
        with pytest.raises(InputError, match="not a working TFLite file"):
            attach(content, metadata())
    written = attach(file_of("none"), metadata())
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        network = written[: archive.getinfo("keras_archs.json").header_offset]
    for content in (written, network, file_of("none") + zipped(("others.txt", "mine"))):
        with pytest.raises(InputError, match="has metadata already"):
            attach(content, metadata())


def test_mediapipe_reads_labels_and_normalization(tmp_path):
    mediapipe = pytest.importorskip("mediapipe")
    tasks = pytest.importorskip("mediapipe.tasks.python")
    path = tmp_path / "model.tflite"
    facts = metadata(mean=(127.5,), scale=127.5)  # it has no normalization by channel
    path.write_bytes(attach(file_of("none"), facts))
    options = tasks.vision.ImageClassifierOptions(
        base_options=tasks.BaseOptions(model_asset_path=str(path))
    )
    with tasks.vision.ImageClassifier.create_from_options(options) as classifier:
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels()[0])
        (found,) = classifier.classify(image).classifications
    expected = Classifier(path).predict(facts.preprocess(pixels()[:1]))[0]
    actual = {category.category_name: category.score for category in found.categories}
    assert actual == pytest.approx(dict(zip(NAMES, expected, strict=True)), abs=1e-5)


@pytest.mark.full
@given(st.data())
def test_a_byte_of_the_network_that_has_changed_is_noticed(data):
    content = bytearray(attach(file_of("int8"), metadata()))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        end = archive.getinfo("keras_archs.json").header_offset
    place = data.draw(st.integers(0, end - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(InputError, match="content is damaged"):
        read_metadata(bytes(content))
