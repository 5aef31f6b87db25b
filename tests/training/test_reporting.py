"""The report of a run: its figures, its pictures, and anybody's text in it."""

import base64
import html
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.data import Examples, ImageData
from training.data.image_data import SPLITS
from training.evaluation.html_report import _pictures, write_report
from training.evaluation.metrics import Predictions, measure
from training.runs.run import Run
from training.runs.run_folder import RunFolder, Settings
from training.settings.config import TrainConfig

IMAGES = 40
NASTY = ["<script>alert(1)</script>", "a & b", "\"' onerror=x", "{{ 7 * 7 }}", "$x_", "猫"]


class Page(HTMLParser):
    """Tables as lists of rows of texts, the sources of images, and all tags."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.sources, self.tags, self.captions, self.words = [], [], [], [], []
        self.inside = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in ("td", "th", "figcaption"):
            self.inside = tag
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "figcaption":
            self.captions.append("")
        elif tag == "img":
            self.sources.append(dict(attributes)["src"])

    def handle_endtag(self, tag):
        if tag in ("td", "th", "figcaption"):
            self.inside = None

    def handle_data(self, data):
        self.words.append(data)
        if self.inside == "figcaption":
            self.captions[-1] += data
        elif self.inside:
            self.tables[-1][-1][-1] += data.strip()

    def table(self, first):
        (found,) = [table for table in self.tables if table[0][: len(first)] == first]
        return found[1:]


def make_run(folder, names):
    """A run on images of which each has its index as its one colour."""
    index = tf.data.Dataset.range(IMAGES)

    def content(i):
        return tf.io.encode_png(tf.fill((300, 20, 3), tf.cast(i, tf.uint8))), i % len(names)

    split = Examples(index, content, channels=3, encoded_bytes=8)
    data = ImageData(
        "toy", tuple(names), (300, 20, 3), dict.fromkeys(("train", "validation", "test"), split)
    )
    config = TrainConfig(model="mobilenet", dataset=NASTY[0])
    run = Run(RunFolder(folder), Settings(config, (32, 32, 3), tuple(names)), data)
    run.folder.write_log(
        [
            {
                "epoch": epoch + 1,
                "loss": 2.0 - epoch,
                "accuracy": 0.5,
                "val_loss": 2.5,
                "val_accuracy": 0.4,
            }
            for epoch in range(2)
        ]
    )
    return run


def write(folder, names, scores):
    run = make_run(folder, names)
    truth = np.arange(IMAGES) % len(names)
    predictions = Predictions(scores.astype("float32"), truth)
    metrics = {
        "model": "mobilenet",
        "dataset": NASTY[0],
        **measure(predictions, names),
        "parameters": 1_234_000,
        "multiply_adds": 56_700_000,
        "validation_top1": 0.5,
        "epochs": 2,
        "training_seconds": 90.0,
        "training_images_per_second": 1000.0,
        "machine": {"platform": "<b>", "gpus": []},
    }
    write_report(run, predictions, metrics)
    return predictions, run.folder.report.read_text()


def random_scores(classes):
    scores = np.random.default_rng(0).random((IMAGES, classes))
    return scores / scores.sum(axis=1, keepdims=True)


def test_no_text_is_taken_for_markup_and_nothing_comes_from_elsewhere(tmp_path):
    _, text = write(tmp_path, NASTY, random_scores(len(NASTY)))
    page = Page(text)
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "b"} == set()
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert re.findall(r"url\((?!#)|@import", text) == []
    assert sorted(row[0] for row in page.table(["class"])) == sorted(NASTY)
    assert "".join(page.words).count(NASTY[0]) >= 3
    assert html.escape("<b>") in text


@pytest.mark.parametrize("classes", [2, 50, 1000])
def test_figures_and_pictures(tmp_path, classes):
    names = [f"class {i}" for i in range(classes)]
    predictions, text = write(tmp_path, names, random_scores(classes))
    page = Page(text)
    guesses = [int(np.argmax(row)) for row in predictions.scores]
    pairs = [(i % classes, guess) for i, guess in enumerate(guesses)]
    wrong = [i for i, (truth, guess) in enumerate(pairs) if truth != guess]

    matrix = [table for table in page.tables if table[0][:1] == [""]]
    if classes <= 50:
        (matrix,) = matrix
        assert matrix[0][1:] == names
        for true, row in enumerate(matrix[1:]):
            assert row == [names[true], *(str(pairs.count((true, i))) for i in range(classes))]
    else:
        assert matrix == []
    confused = [pair for pair in set(pairs) if pair[0] != pair[1]]
    rows = page.table(["true class", "predicted class"])
    counts = [pairs.count((names.index(row[0]), names.index(row[1]))) for row in rows]
    assert [str(count) for count in counts] == [row[2] for row in rows]
    assert counts == sorted(map(pairs.count, confused), reverse=True)[:20]

    certain = sorted(wrong, key=lambda i: -predictions.scores[i].max())[:24]
    assert len(page.sources) == len(certain)
    for i, source, caption in zip(certain, page.sources, page.captions, strict=True):
        picture = tf.io.decode_png(base64.b64decode(source.partition(",")[2])).numpy()
        assert picture.shape == (32, 32, 3), "300 x 20, as the network gets it"
        assert (picture == i).all()
        lines = caption.split("\n")
        assert lines[0] == names[pairs[i][0]]
        assert lines[1] == f"predicted {names[pairs[i][1]]}, {predictions.scores[i].max():.1%}"


@pytest.mark.full
@pytest.mark.parametrize(
    ("model", "test_crop", "side"),
    [("mobilenet", 0.5, 32), ("vgg16", 0.5, 32), ("vgg16", 0.4, 600)],
)
def test_mistakes_are_shown_as_the_network_sees_them(tmp_path, model, test_crop, side):
    """The centre of a picture has a colour of its own; evaluation cuts all around it off."""
    colour = np.array([200, 100, 50], "uint8")
    pixels = np.zeros((40, 60, 3), "uint8")
    pixels[10:30, 20:40] = colour
    file = tf.io.encode_png(pixels)
    split = Examples(
        tf.data.Dataset.range(IMAGES), lambda i: (file, i % 2), channels=3, encoded_bytes=8
    )
    data = ImageData("toy", ("a", "b"), (40, 60, 3), dict.fromkeys(SPLITS, split))
    config = TrainConfig(model=model, dataset="toy", test_crop=test_crop)
    run = Run(RunFolder(tmp_path), Settings(config, (side, side, 3), ("a", "b")), data)
    for source in _pictures(run, np.array([7, 3])).values():
        picture = tf.io.decode_png(base64.b64decode(source.partition(",")[2])).numpy()
        assert picture.shape == (min(side, 256), min(side, 256), 3)
        np.testing.assert_array_equal(picture, np.broadcast_to(colour, picture.shape))


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: chromium)")
def test_a_browser_shows_all_pictures_and_never_scrolls_to_the_side(tmp_path):
    def browse(page, *words):
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--disable-background-networking", f"--user-data-dir={tmp_path}/profile"]
        command += [*words, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        return done.stdout

    names = [f"a class with a long name, {i}" for i in range(5)]
    predictions, text = write(tmp_path, names, random_scores(5))
    report, picture = tmp_path / "report.html", tmp_path / "page.png"
    browse(report, "--window-size=1000,4000", f"--screenshot={picture}")
    seen = np.asarray(Image.open(picture).convert("RGB"))
    areas = [int((seen == colour).all(axis=-1).sum()) for colour in range(IMAGES)]
    guesses = predictions.scores.argmax(axis=1)
    certain = sorted(
        np.flatnonzero(guesses != predictions.truth), key=lambda i: -predictions.scores[i].max()
    )[:24]
    assert min(areas[i] for i in certain) > 500, areas

    measured = tmp_path / "measured.html"
    sides = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    measured.write_text(
        text.replace("</body>", f"<script>document.title = {sides}</script></body>")
    )
    dom = browse(measured, "--window-size=500,800", "--dump-dom")  # the narrowest it has
    assert re.findall("<title>(.*?)</title>", dom) == ["0"]


@pytest.mark.full
def test_a_model_without_mistakes(tmp_path):
    _, text = write(tmp_path, ["a", "b"], np.eye(2)[np.arange(IMAGES) % 2])
    page = Page(text)
    assert page.sources == []
    assert "100.00%" in text


@settings(max_examples=50, deadline=None)
@given(
    st.integers(2, 6).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(
                st.tuples(
                    st.integers(0, n - 1), st.lists(st.integers(0, 9), min_size=n, max_size=n)
                ),
                min_size=1,
                max_size=30,
            ),
        )
    )
)
def test_measures_are_those_of_their_definitions(case):
    classes, images = case
    names = [str(i) for i in range(classes)]
    scores = np.array([row for _, row in images], "float32") + np.linspace(
        0, 0.5, classes, dtype="float32"
    )
    scores /= scores.sum(axis=1, keepdims=True)
    found = measure(Predictions(scores, np.array([truth for truth, _ in images])), names)
    guesses = [max(range(classes), key=lambda i, row=row: row[i]) for row in scores]
    for i, name in enumerate(names):
        hits = sum(truth == guess == i for (truth, _), guess in zip(images, guesses, strict=True))
        support, predicted = sum(truth == i for truth, _ in images), guesses.count(i)
        precision = hits / predicted if predicted else 0
        recall = hits / support if support else 0
        f1 = 2 * precision * recall / (precision + recall) if hits else 0
        assert found["support"][name] == support
        assert found["precision"][name] == pytest.approx(precision, abs=1e-4)
        assert found["recall"][name] == pytest.approx(recall, abs=1e-4)
        assert found["f1"][name] == pytest.approx(f1, abs=1e-4)
    assert found["test_images"] == len(images)
