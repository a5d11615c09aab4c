"""The measuring side: one contestant in a process of its own."""

import json
import os
import sys
import time


class Clock:
    """Seconds since the process was started, by what was done in them.

    Args:
        started: float, the time of the start, of `time.time()`.

    Example:

    ```python
    clock = Clock(settings["started"])
    import keras
    clock.mark("import_seconds")
    ```
    """

    def __init__(self, started):
        self.started = self.last = started
        self.seconds = {}

    def mark(self, name):
        """Gives the time since the last mark a name."""
        now = time.time()
        self.seconds[name] = round(now - self.last, 3)
        self.last = now

    def since_start(self):
        """Seconds since the process was started, float."""
        return round(time.time() - self.started, 3)


def serve(make):
    """Makes a contestant by the settings and runs it whenever asked to.

    Settings are the process's argument, JSON. Requests come as lines of JSON
    from standard input, answers go to standard output; what libraries print
    goes to standard error, so that it cannot be taken for an answer.

    Args:
        make: function of the settings (dict) to a pair: a function of a
            request's entries to an answer (dict), and facts (dict).
    """
    settings = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**entries):
        answers.write(json.dumps(entries) + "\n")

    try:
        run, facts = make(settings)
    except ModuleNotFoundError as error:
        answer(missing=error.name)
        return
    answer(**facts)
    for line in sys.stdin:
        answer(**run(**json.loads(line)))


def speed(num_images, seconds, peak_device_bytes):
    """What each turn tells first, a dict.

    Args:
        num_images: int, trained on or made in the turn.
        seconds: float, that it took.
        peak_device_bytes: int, or None on a CPU.
    """
    return {
        "seconds": seconds,
        "images_per_second": num_images / seconds,
        "peak_device_bytes": peak_device_bytes,
        "peak_process_bytes": peak_process_bytes(),
    }


def peak_process_bytes():
    """The most memory that this process had in use, int; None if unknown."""
    if not os.path.exists("/proc/self/status"):
        return None
    with open("/proc/self/status") as status:
        lines = [line for line in status if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else None
