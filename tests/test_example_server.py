"""The model server: what it accepts, how it batches, what it survives."""

import asyncio
import base64
import concurrent.futures
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from example_cases import EXAMPLES, exported_files
from PIL import Image

from keras_unet_diffusion import noise

pytest.importorskip("prometheus_client")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
sys.path.insert(0, str(EXAMPLES / "server"))

from app import Metrics  # noqa: E402
from batching import Batcher, QueueFull  # noqa: E402
from exported_model import draw_noise  # noqa: E402
from orders import BadOrder, Order, read_order  # noqa: E402


class CountingModel:
    """Each step adds one; remembers how many images took it together."""

    takes_labels = takes_guidance = True
    num_classes, most_steps = 10, 1000

    def __init__(self):
        self.batches = []
        self.before_step = lambda i: None

    def noise(self, seed, count):
        return np.full((count, 2, 2, 1), seed, "float32")

    def step(self, x_t, i, num_steps, labels, guidance_scale):
        assert len(labels) == len(x_t)
        self.before_step(i)
        self.batches.append(len(x_t))
        return x_t + 1


def read(fields, **attributes):
    model = CountingModel()
    vars(model).update(attributes)
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return read_order(body, model, most_images=4, most_steps=100)


def order(seed=0, steps=3, count=1, guidance=1.0):
    return Order(seed, steps, (0,) * count, guidance, "png")


def test_the_noise_of_a_seed_is_the_librarys():
    ours = draw_noise(2**40 + 7, 3, (3, 3, 1))
    expected = noise.normal_images(2**40 + 7, 0, 3, (3, 3, 1))
    # The sines of numpy and of TensorFlow round differently; angles up to
    # 2 pi have steps of 5e-7, numbers up to 5.8 are multiplied by them.
    np.testing.assert_allclose(ours, expected, atol=5e-6)


def test_an_order_is_read():
    fields = {"seed": 5, "steps": 9, "labels": [1, 2], "guidance": 2}
    assert read(fields) == Order(5, 9, (1, 2), 2.0, "png")


def test_one_label_serves_count_images():
    assert read({"labels": 3, "count": 2}).labels == (3, 3)


def test_a_model_without_classes_is_asked_for_a_count():
    assert read({"count": 2}, takes_labels=False).count == 2
    with pytest.raises(BadOrder, match="no classes"):
        read({"labels": [1]}, takes_labels=False)


@pytest.mark.parametrize(
    "fields, message",
    [
        (b"", "must be JSON"),
        (b"\xff", "must be JSON"),
        (b"[" * 4000, "must be JSON"),
        ([], "must be a JSON object"),
        ({"labels": 0, "x": 1}, "Unknown field"),
        ({}, "labels must be"),
        ({"labels": []}, "labels must be"),
        ({"labels": [10]}, "labels must be"),
        ({"labels": [True]}, "labels must be"),
        ({"labels": "3"}, "labels must be"),
        ({"labels": [0] * 5}, "labels must be 1 to 4"),
        ({"labels": [0], "count": 2}, "count must be the number of labels"),
        ({"labels": 0, "count": 5}, "count must be .* 1 to 4"),
        ({"labels": 0, "seed": -1}, "seed must be"),
        ({"labels": 0, "seed": 2**63}, "seed must be"),
        ({"labels": 0, "seed": 1.5}, "seed must be"),
        ({"labels": 0, "steps": 0}, "steps must be"),
        ({"labels": 0, "steps": 101}, "steps must be .* 1 to 100"),
        ({"labels": 0, "guidance": -1}, "guidance must be"),
        ({"labels": 0, "guidance": float("nan")}, "guidance must be"),
        ({"labels": 0, "guidance": 10**400}, "guidance must be"),
        ({"labels": 0, "format": "gif"}, "format must be"),
    ],
)
def test_what_cannot_be_fulfilled_is_refused_by_name(fields, message):
    with pytest.raises(BadOrder, match=message):
        read(fields)


def run_batcher(scenario, **options):
    """Runs a coroutine function of a `Batcher` beside it; what it returns."""

    async def run():
        model, metrics = CountingModel(), Metrics()
        batcher = Batcher(model, metrics, **options)
        worker = asyncio.create_task(batcher.run())
        try:
            async with asyncio.timeout(20):
                return await scenario(batcher, model)
        finally:
            worker.cancel()

    return asyncio.run(run())


def test_concurrent_orders_share_steps_and_get_their_own_images():
    async def scenario(batcher, model):
        orders = [order(seed=10 * k, count=k) for k in (1, 2, 3)]
        futures = [batcher.submit(x) for x in orders]
        return model, await asyncio.gather(*futures)

    model, images = run_batcher(scenario)
    assert model.batches == [6, 6, 6]
    for k, pictures in zip((1, 2, 3), images, strict=True):
        # The seed, plus one for each of three steps.
        np.testing.assert_array_equal(
            pictures, np.full((k, 2, 2, 1), 10 * k + 3)
        )


def test_orders_of_other_steps_or_guidance_do_not_share_a_batch():
    async def scenario(batcher, model):
        orders = [order(), order(steps=2), order(guidance=2.0), order()]
        await asyncio.gather(*(batcher.submit(x) for x in orders))
        return model

    model = run_batcher(scenario)
    assert model.batches == [2] * 3 + [1] * 2 + [1] * 3


def test_batches_are_no_larger_than_allowed():
    async def scenario(batcher, model):
        orders = [order(steps=1, count=3) for _ in range(3)]
        await asyncio.gather(*(batcher.submit(x) for x in orders))
        return model

    assert run_batcher(scenario, most_images=6).batches == [6, 3]


def test_an_order_given_up_leaves_its_batch_between_two_steps():
    async def scenario(batcher, model):
        loop = asyncio.get_running_loop()
        kept, given_up = (batcher.submit(order(steps=4)) for _ in range(2))

        def before_step(i):
            if i == 1:  # in the worker's thread
                loop.call_soon_threadsafe(given_up.cancel)

        model.before_step = before_step
        await kept
        return model

    assert run_batcher(scenario).batches == [2, 2, 1, 1]


def test_nothing_is_computed_when_all_have_left():
    async def scenario(batcher, model):
        batcher.submit(order()).cancel()
        await batcher.submit(order(steps=1))
        return model

    assert run_batcher(scenario).batches == [1]


def test_a_full_queue_refuses_and_a_failed_batch_does_not_end_the_server():
    async def scenario(batcher, model):
        def before_step(i):
            raise RuntimeError("no memory")

        model.before_step = before_step
        failed = batcher.submit(order(count=4))
        with pytest.raises(QueueFull):
            batcher.submit(order())
        with pytest.raises(RuntimeError, match="no memory"):
            await failed
        model.before_step = lambda i: None
        return await batcher.submit(order(seed=1, steps=1))

    images = run_batcher(scenario, most_waiting=4)
    np.testing.assert_array_equal(images, np.full((1, 2, 2, 1), 2))


class Server:
    """The server as users start it, on a free port."""

    def __init__(self, exported, *flags):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(EXAMPLES / "server"),
                str(exported),
                f"--port={self.port}",
                *flags,
            ],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def __enter__(self):
        for _ in range(600):
            try:
                self.request("/health")
                return self
            except urllib.error.URLError:
                assert self.process.poll() is None
                time.sleep(0.5)
        raise TimeoutError("the server did not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def request(self, path, body=None):
        """`(status, bytes)` of a GET, or a POST with a body."""
        address = f"http://127.0.0.1:{self.port}{path}"
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(address, data, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def images(self, **body):
        """Pixels of an order, `(count, height, width)`."""
        status, answer = self.request("/generate", body | {"format": "json"})
        assert status == 200, answer
        pictures = map(base64.b64decode, json.loads(answer)["images"])
        return np.stack([Image.open(io.BytesIO(x)) for x in pictures])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exported_files(tmp_path_factory.mktemp("server"))


@pytest.mark.slow
def test_the_picture_of_a_seed_is_the_one_that_generate_makes(exported):
    model = tf.saved_model.load(str(exported / "saved_model"))
    images = model.signatures["generate"](
        num_images=tf.constant(2),
        num_steps=tf.constant(6),
        seed=tf.constant(5, tf.int64),
        sampler=tf.constant("ddim"),
        labels=tf.constant([1, 2]),
        guidance_scale=tf.constant(2.0),
    )["images"]
    expected = (np.clip(images, -1, 1)[..., 0] + 1) * 127.5
    with Server(exported) as server:
        ours = server.images(seed=5, steps=6, labels=[1, 2], guidance=2)
    # Half a level by rounding to whole ones, and 1e-5 of float32 noise.
    assert np.abs(ours - expected).max() < 0.51


@pytest.mark.slow
def test_exact_pictures_do_not_depend_on_what_shares_their_batch(exported):
    with Server(exported, "--exact") as server:

        def ask(seed):
            return server.images(seed=seed, steps=20, labels=[seed % 10])

        alone = [ask(seed) for seed in range(12)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            together = list(pool.map(ask, range(12)))
        _, metrics = server.request("/metrics")
    np.testing.assert_array_equal(alone, together)
    # Some did share one.
    numbers = dict(
        line.rsplit(" ", 1)
        for line in metrics.decode().splitlines()
        if line.startswith("batch_images_")
    )
    count = float(numbers["batch_images_count"])
    assert float(numbers['batch_images_bucket{le="1.0"}']) < count


@pytest.mark.slow
def test_load_nonsense_and_disconnects_leave_the_server_well(exported):
    with Server(exported) as server:
        done = subprocess.run(
            [
                sys.executable,
                str(EXAMPLES / "server" / "load_test.py"),
                f"--port={server.port}",
                '--body={"labels": 3, "steps": 4}',
                "--malformed=2000",
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        status, _ = server.request("/health")
        _, metrics = server.request("/metrics")
    assert status == 200
    assert "waiting_images 0.0" in metrics.decode()
    files = [x for x in done.stdout.splitlines() if "open_fds" in x]
    before, after = (int(x) for x in files[0].split() if x.isdigit())
    # The connection that asks is counted both times; one may be closing.
    assert after <= before + 1
