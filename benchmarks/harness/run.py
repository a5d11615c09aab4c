"""One run of a benchmark: its time, its folder of logs, and its results."""

import tempfile
import time

from harness.contest import Worker, run_contest
from harness.report import context, print_table, save


class Run:
    """What a benchmark has from its flags to its table.

    Args:
        name: str, of the benchmark.
        values: flags, those of `harness.flags.make_parser` among them.

    Attributes:
        results: dict, written as JSON; its `rows` are those of the table.

    Example:

    ```python
    run = Run("training", values)
    worker = run.start("keras-jax", "keras_training", settings, environment)
    run.add_rows([worker.ask(num_steps=200)])
    run.finish(("images/s",), lambda row: (row["images_per_second"],))
    ```
    """

    def __init__(self, name, values):
        self.values = values
        self.deadline = time.monotonic() + 60 * values.minutes
        self.log_dir = values.log_dir or tempfile.mkdtemp(prefix=f"{name}_")
        self.results = context() | {"settings": vars(values), "rows": []}

    def is_over(self):
        """Whether the time of `--minutes` is over, bool."""
        return time.monotonic() >= self.deadline

    def start(self, name, module, settings, environment):
        """Starts a `Worker` that is ended when the time is over."""
        return Worker(
            name, module, settings, environment, self.log_dir, self.deadline
        )

    def contest(self, starts, requests, summarize, describe):
        """Lets contestants run in turns, for `--rounds`, and adds their rows.

        Args:
            starts: see `run_contest`.
            requests: likewise.
            summarize: function of what `run_contest` returns to rows of the
                table, a list of dicts. They are saved after every round.
            describe: see `run_contest`.
        """
        found = run_contest(
            starts,
            requests,
            self.values.rounds,
            self.deadline,
            lambda found: self._save(summarize(found)),
            describe,
        )
        self.add_rows(summarize(found))

    def add_rows(self, rows):
        """Adds a list of dicts to the rows of the table, and saves them."""
        self.results["rows"] += rows
        self._save()

    def finish(self, columns, table_row):
        """Prints the table and saves the results; returns them, a dict.

        Args:
            columns: tuple of str.
            table_row: function of a row to its cells.
        """
        print_table(columns, map(table_row, self.results["rows"]))
        self._save()
        return self.results

    def _save(self, more_rows=()):
        rows = [*self.results["rows"], *more_rows]
        save(self.results | {"rows": rows}, self.values.out)
