"""The pages in docs/ are those that their code writes from the recorded tables."""

from benchmarks.bench import report
from benchmarks.fashion_mnist import __main__ as fashion_mnist
from benchmarks.tflite import page


def test_the_pages_are_up_to_date():
    written = {
        report.PAGE: report.page(report.read()),
        fashion_mnist.FOLDER / fashion_mnist.PAGE: fashion_mnist.page(fashion_mnist.FOLDER),
        page.PAGE: page.page(page.read()),
    }
    assert [path.name for path, text in written.items() if path.read_text() != text] == []
