"""HTTP around the model: orders in, pictures out."""

import asyncio
import base64
import contextlib
import dataclasses
import io
import logging

import numpy as np
import prometheus_client as prometheus
from batching import Batcher, QueueFull
from orders import BadOrder, read_order
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the server bears.

    Args:
        most_images: int, of a request and of a batch.
        most_steps: int, of a request.
        most_waiting: int, images in the queue; beyond that it answers 503.
        most_bytes: int, of a request's body; beyond that it answers 413.
        body_seconds: float, in which a body must arrive, else 408.
        answer_seconds: float, in which images must be done, else 504.
    """

    most_images: int = 16
    most_steps: int = 250
    most_waiting: int = 128
    most_bytes: int = 4096
    body_seconds: float = 5.0
    answer_seconds: float = 60.0


class Metrics:
    """Counters that /metrics shows, in a registry of their own."""

    def __init__(self):
        self.registry = prometheus.CollectorRegistry()
        # Memory and open files.
        prometheus.ProcessCollector(registry=self.registry)

        def make(kind, name, text, *labels, **options):
            return kind(name, text, labels, registry=self.registry, **options)

        count, spread = prometheus.Counter, prometheus.Histogram
        self.answers = make(count, "answers", "Answers by status", "status")
        self.images = make(count, "images", "Images made")
        self.dropped = make(count, "dropped", "Orders given up by clients")
        self.step_seconds = make(spread, "step_seconds", "Of a batch's step")
        self.answer_seconds = make(spread, "answer_seconds", "Of an order")
        self.batch_images = make(
            spread,
            "batch_images",
            "Images that took a step together",
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self.waiting = make(prometheus.Gauge, "waiting_images", "In the queue")


class Refusal(Exception):
    """An answer that is no picture."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def make_app(model, limits=None):
    """Makes the application.

    Args:
        model: a `Model`.
        limits: a `Limits`.

    Returns:
        A `Starlette` application: POST /generate, GET /health, GET /metrics.
    """
    limits = limits or Limits()
    metrics = Metrics()
    batcher = Batcher(model, metrics, limits.most_images, limits.most_waiting)
    metrics.waiting.set_function(batcher.num_waiting)

    @contextlib.asynccontextmanager
    async def lifespan(app):
        # The first call of a signature takes far longer than the others.
        await asyncio.to_thread(_warm_up, model)
        app.state.worker = asyncio.create_task(batcher.run())
        yield
        app.state.worker.cancel()

    async def generate(request):
        with metrics.answer_seconds.time():
            answer = await _answer(request, model, batcher, limits)
        metrics.answers.labels(answer.status_code).inc()
        return answer

    async def health(request):
        works = not request.app.state.worker.done()
        return JSONResponse(
            {"status": "ok" if works else "the worker has ended"},
            200 if works else 500,
        )

    async def show_metrics(request):
        return Response(
            prometheus.generate_latest(metrics.registry),
            media_type="text/plain; version=0.0.4",
        )

    return Starlette(
        routes=[
            Route("/generate", generate, methods=["POST"]),
            Route("/health", health),
            Route("/metrics", show_metrics),
        ],
        lifespan=lifespan,
    )


def _warm_up(model):
    model.step(model.noise(0, 1), 0, 1, np.zeros(1, "int32"), 1.0)


async def _answer(request, model, batcher, limits):
    try:
        body = await _read_body(request, limits)
        order = read_order(body, model, limits.most_images, limits.most_steps)
        images = await _images(request, batcher, order, limits)
    except BadOrder as error:
        return _refusal(400, str(error))
    except ClientDisconnect:
        return _refusal(499, "The client has left.")
    except QueueFull:
        return _refusal(503, "Too many images are waiting. Try again later.")
    except Refusal as refusal:
        return _refusal(refusal.status, str(refusal))
    except Exception:  # the model's, or ours: the client learns no details
        logging.exception("An order failed.")
        return _refusal(500, "The images could not be made.")
    return _show(order, images)


def _refusal(status, message):
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": message}, status, headers)


async def _read_body(request, limits):
    """The body, unless it is too long or too slow."""
    body = b""
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                body += part
                if len(body) > limits.most_bytes:
                    raise Refusal(
                        413,
                        f"The body has more than {limits.most_bytes} bytes.",
                    )
    except TimeoutError as error:
        raise Refusal(
            408, f"The body took longer than {limits.body_seconds} seconds."
        ) from error
    return body


async def _images(request, batcher, order, limits):
    """The images of an order, if the client still wants them then."""
    done = batcher.submit(order)
    gone = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait(
            [done, gone],
            timeout=limits.answer_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if done.done():
            return done.result()
        if gone.done():
            raise Refusal(499, "The client has left.")
        raise Refusal(
            504, f"It took longer than {limits.answer_seconds} seconds."
        )
    finally:
        done.cancel()
        gone.cancel()


async def _disconnect(request):
    """Returns when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _show(order, images):
    pixels = (np.clip(images, -1, 1) + 1) * 127.5
    pixels = np.round(pixels).astype("uint8")
    if order.format == "png":
        row = np.concatenate(list(pixels), axis=1)  # side by side
        return Response(_png(row), media_type="image/png")
    pictures = [base64.b64encode(_png(x)).decode() for x in pixels]
    return JSONResponse(
        {
            "seed": order.seed,
            "steps": order.steps,
            "guidance": order.guidance,
            "labels": order.labels,
            "images": pictures,
        }
    )


def _png(pixels):
    picture = Image.fromarray(
        pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    )
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
