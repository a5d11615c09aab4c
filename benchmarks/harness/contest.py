"""The asking side: starts contestants and lets them run in turns."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1]
# Contestants wait for their turn with their memory: none may take all of it.
SHARED_CARD = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


class Failed(Exception):
    """A contestant that is not installed, ended, or ran past its time."""


class Worker:
    """One contestant: a process that runs when asked to.

    Args:
        name: str, what tables call it.
        module: str, a module of `contestants`.
        settings: dict, handed to it as JSON.
        environment: dict of str, variables besides those of this process; a
            value that starts with "+" is added to what is there.
        log_dir: folder for its standard error.
        deadline: float, time of `time.monotonic()` at which it is ended.

    Example:

    ```python
    worker = Worker("ceiling", "matrix_ceiling", {"size": 8192})
    print(worker.facts["teraflops"])
    worker.close()
    ```
    """

    def __init__(
        self,
        name,
        module,
        settings,
        environment=None,
        log_dir=".",
        deadline=None,
    ):
        self.name = name
        self.deadline = deadline
        self.log_path = Path(log_dir) / f"{name}.log"
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        argument = json.dumps(settings | {"started": time.time()})
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"contestants.{module}", argument],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(environment or {}),
                text=True,
            )
        self.facts = self._answer()
        if "missing" in self.facts:
            self.close()
            raise Failed(f"not installed: {self.facts['missing']}")

    def ask(self, **request):
        """Lets the contestant run; returns its answer, a dict.

        Raises:
            Failed: the process has ended.
        """
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # The answer, which does not come, says so.
        return self._answer()

    def close(self):
        """Ends the process and gives its memory back."""
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _answer(self):
        timer = None
        if self.deadline is not None:
            left = max(0.0, self.deadline - time.monotonic())
            timer = threading.Timer(left, self.process.kill)
            timer.start()
        line = self.process.stdout.readline()
        if timer is not None:
            timer.cancel()
        if line:
            return json.loads(line)
        self.process.wait()
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise Failed("ended: the time was over")
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "no message"
        if self.process.returncode < 0:  # 9 is most often lack of memory.
            last = f"signal {-self.process.returncode}; {last}"
        raise Failed(f"ended: {last[:200]} (see {self.log_path})")


def _environment(changes):
    paths = [str(BENCHMARKS), str(BENCHMARKS.parent)]
    if os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    environment = SHARED_CARD | os.environ
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    for name, value in changes.items():
        if value.startswith("+"):
            value = f"{environment.get(name, '')} {value[1:]}".strip()
        environment[name] = value
    return environment


def run_contest(
    starts, requests, num_rounds, deadline, on_round=None, describe=None
):
    """Starts contestants one after another, then lets them run in turns.

    All stay alive between their turns, so that nothing is compiled twice, and
    one runs at a time. Who begins moves on from round to round.

    Args:
        starts: dict from names to functions that return a `Worker`.
        requests: dict from names of what is measured to requests (dicts).
        num_rounds: int >= 1.
        deadline: float, of `time.monotonic()`; no round begins after it.
        on_round: function of the rows, called after each round.
        describe: function of an answer to what is said of it after its turn,
            str; None for no more than that it came.

    Returns:
        dict from names to rows: `facts` of the start and `runs` (dict from
        names of what is measured to lists of answers), or `error`.
    """
    rows, workers = {}, {}
    for name, start in starts.items():
        before = gpu_memory_bytes()
        try:
            worker = workers[name] = start()
        except Failed as failure:
            rows[name] = {"error": str(failure)}
            _tell(f"{name}: {failure}")
            continue
        rows[name] = {
            "facts": worker.facts,
            "runs": {key: [] for key in requests},
        }
        # Nobody else runs now, so what the card has more is this one's.
        if before is not None:
            taken = gpu_memory_bytes() - before
            worker.facts["nvidia_smi_bytes"] = taken
        _tell(f"{name} is ready")
    for turn in range(num_rounds):
        names = list(workers)
        first = turn % max(1, len(names))
        for name in names[first:] + names[:first]:
            if time.monotonic() > deadline:
                break
            try:
                for key, request in requests.items():
                    answer = workers[name].ask(**request)
                    rows[name]["runs"][key].append(answer)
                    said = describe(answer) if describe else "done"
                    _tell(f"{name}, {key}: {said}")
            except Failed as failure:
                _tell(f"{name}: {failure}")
                rows[name]["error"] = str(failure)
                del workers[name]
        if on_round is not None:
            on_round(rows)
    for worker in workers.values():
        worker.close()
    return rows


def _tell(text):
    """Says how far it is, beside the table and in time."""
    print(text, file=sys.stderr, flush=True)


def fresh_folder(parent):
    """A new folder, for a compiler's cache that must be empty at first."""
    Path(parent).mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix="cache_", dir=Path(parent).resolve())


def gpu_memory_bytes():
    """Memory in use on the first card by `nvidia-smi`; None without one."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,nounits"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    lines = answer.stdout.split("\n")
    return int(lines[1]) * 2**20
