"""What was done and how long it took, for who waits for an export."""

import contextlib
import time


class Stopwatch:
    """Times blocks of code and reports each when it has ended.

    Args:
        report: function that is called with a line of text.

    Example:

    ```python
    stopwatch = Stopwatch(print)
    with stopwatch("onnx/ written"):
        write_onnx(...)
    ```
    """

    def __init__(self, report=lambda line: None):
        self.report = report

    @contextlib.contextmanager
    def __call__(self, what):
        began = time.monotonic()
        yield
        self.report(f"{time.monotonic() - began:6.1f} s  {what}")
