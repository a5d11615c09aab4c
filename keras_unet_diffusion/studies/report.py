"""What a study found: a table, the numbers behind it, and a figure."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from keras_unet_diffusion.files import written_whole


@dataclasses.dataclass(frozen=True)
class Result:
    """The measurements of a study.

    Args:
        study: str, its name.
        columns: tuple of str, of the table; the first is what names a row.
        rows: list of lists, one cell for each column: str, int, float, or a
            list of floats with one measurement for each seed.
        series: dict of whatever else the figure shows, as JSON knows it.
        setting: dict of what was measured with.

    Example:

    ```python
    print(result.table())
    ```
    """

    study: str
    columns: tuple
    rows: list
    series: dict
    setting: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    "Each row has a cell for each column. Received: "
                    f"{len(row)} cells for {len(self.columns)} columns in "
                    f"{row}. Fill the missing ones with ''."
                )

    def table(self):
        """The table in Markdown, with mean ± standard deviation over seeds."""
        lines = [
            f"| {' | '.join(self.columns)} |",
            "|" + "---|" * len(self.columns),
        ]
        for row in self.rows:
            lines.append(f"| {' | '.join(cell_text(x) for x in row)} |")
        return "\n".join(lines)

    def save(self, folder):
        """Writes `STUDY.json` and returns its path."""
        path = Path(folder) / f"{self.study}.json"
        text = json.dumps(dataclasses.asdict(self), default=_plain)
        with written_whole(path) as temporary:
            temporary.write_text(text + "\n")
        return path


def load_result(path):
    """Reads what `Result.save` wrote, for another look or another figure."""
    fields = json.loads(Path(path).read_text())
    return Result(**fields | {"columns": tuple(fields["columns"])})


def cell_text(cell):
    """A cell of a table, three digits; of several seeds mean ± deviation."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int | np.integer):
        return f"{cell:,}"
    if isinstance(cell, float):
        return _digits(cell)
    mean = _digits(np.mean(cell))
    # One seed has no spread that is known.
    if len(cell) == 1:
        return mean
    return f"{mean} ± {_digits(np.std(cell, ddof=1), 2)}"


def _digits(number, digits=3):
    """A number to so many digits, and never in powers of ten above 1."""
    if number == 0 or not np.isfinite(number):
        return f"{number:g}"
    rounded = float(f"{number:.{digits - 1}e}")
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    if places > 6:
        return f"{number:.{digits - 1}e}"
    return f"{rounded:,.{max(places, 0)}f}"


def _plain(value):
    """What JSON does not know, as what it knows, six digits."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = np.vectorize(lambda x: float(f"{x:.6g}"))(array)
    return array.tolist()
