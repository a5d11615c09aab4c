"""How far sampling is, shown where it takes long."""

import sys
import time

import keras

# A progress bar appears where sampling takes longer, and moves this often.
PATIENCE_SECONDS = 3.0
PIECE_SECONDS = 0.5


class Progress:
    """Decides how many steps to take at once, and shows how far it is.

    Args:
        request: a `Request`.
    """

    def __init__(self, request):
        is_seen = request.verbose == 1
        if request.verbose == "auto":
            is_seen = sys.stdout.isatty()
        # The first step is taken alone: it says how long the others take.
        self.piece = 1 if is_seen else sys.maxsize
        self.is_seen = is_seen
        self.total = request.steps_taken * request.num_images
        self.num_done = 0
        self.bar = None
        self.began = self.before = time.monotonic()

    def pieces(self, begin, end):
        """Yields the first and the last of the steps to take at once."""
        while begin < end:
            last = min(end, begin + self.piece)
            yield begin, last
            begin = last

    def done(self, x_t, num_steps, num_images):
        """Called after some steps of some images."""
        if not self.is_seen:
            return
        float(x_t[0, 0, 0, 0])  # waits until they are computed
        now = time.monotonic()
        step_seconds = max(now - self.before, 1e-6) / num_steps
        self.piece = max(1, int(PIECE_SECONDS / step_seconds))
        self.before = now
        self.num_done += num_steps * num_images
        if self.bar is None and now - self.began > PATIENCE_SECONDS:
            self.bar = keras.utils.Progbar(self.total, unit_name="image step")
        if self.bar is not None:
            self.bar.update(self.num_done)
