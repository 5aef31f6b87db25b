"""What a finished run has measured."""

from typing import Any

from keras_archs.display import html_table


class Metrics(dict[str, Any]):
    """The content of metrics.json. A notebook shows its single figures, for the matrix is large."""

    def _repr_html_(self) -> str:
        return html_table(["figure", "value"], self._figures())

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        """The same as text, where IPython has no HTML."""
        printer.text("\n".join(f"{name}: {value}" for name, value in self._figures()))

    def _figures(self) -> list[tuple[str, str]]:
        return [
            (name, f"{value:.4g}" if isinstance(value, float) else str(value))
            for name, value in self.items()
            if isinstance(value, str | int | float)
        ]
