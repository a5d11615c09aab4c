"""One model for many requests: images that can share a batch do."""

import asyncio
import collections
import dataclasses

import numpy as np


class QueueFull(Exception):
    """More images wait than the server wants to promise."""


@dataclasses.dataclass(eq=False)
class Job:
    """Images of one order on their way.

    Args:
        order: an `Order`.
        done: future of the images, float32 `(count, height, width, channels)`.
            Cancelling it takes them out, also between two steps.
    """

    order: object
    done: asyncio.Future

    @property
    def kind(self):
        """Jobs of one kind take their steps together."""
        return self.order.steps, self.order.guidance


class Batcher:
    """Runs the model for whoever waits, the first come first.

    Args:
        model: a `Model`.
        metrics: a `Metrics`.
        most_images: int, images of a batch.
        most_waiting: int, images in the queue.
    """

    def __init__(self, model, metrics, most_images=16, most_waiting=128):
        self.model = model
        self.metrics = metrics
        self.most_images = most_images
        self.most_waiting = most_waiting
        self._queue = collections.deque()
        self._arrival = asyncio.Event()

    def submit(self, order):
        """Puts an order into the queue.

        Returns:
            A future of its images; cancel it to drop the work.

        Raises:
            QueueFull: try again later.
        """
        if self.num_waiting() + order.count > self.most_waiting:
            raise QueueFull
        done = asyncio.get_running_loop().create_future()
        self._queue.append(Job(order, done))
        self._arrival.set()
        return done

    def num_waiting(self):
        """Images in the queue that somebody still wants, int."""
        return sum(x.order.count for x in self._queue if not x.done.done())

    async def run(self):
        """Makes images until it is cancelled."""
        while True:
            jobs = self._next_jobs()
            if not jobs:
                self._arrival.clear()
                await self._arrival.wait()
                continue
            try:
                await self._sample(jobs)
            except Exception as error:  # one batch fails, the server does not
                for job in jobs:
                    if not job.done.done():
                        job.done.set_exception(error)

    def _next_jobs(self):
        """The first job of the queue and those that fit into its batch."""
        waiting = [job for job in self._queue if not job.done.done()]
        self.metrics.dropped.inc(len(self._queue) - len(waiting))
        chosen, room = [], self.most_images
        for job in waiting:
            fits = not chosen or job.kind == chosen[0].kind
            if fits and job.order.count <= room:
                chosen.append(job)
                room -= job.order.count
        self._queue = collections.deque(x for x in waiting if x not in chosen)
        return chosen

    async def _sample(self, jobs):
        order = jobs[0].order
        noise, labels = [], []
        for job in jobs:
            noise.append(self.model.noise(job.order.seed, job.order.count))
            labels.append(np.array(job.order.labels, "int32"))
        for i in range(order.steps):
            kept = [k for k, job in enumerate(jobs) if not job.done.done()]
            self.metrics.dropped.inc(len(jobs) - len(kept))
            jobs, noise, labels = (
                [x[k] for k in kept] for x in (jobs, noise, labels)
            )
            if not jobs:
                return
            counts = [job.order.count for job in jobs]
            with self.metrics.step_seconds.time():
                x_t = await asyncio.to_thread(
                    self.model.step,
                    np.concatenate(noise),
                    i,
                    order.steps,
                    np.concatenate(labels),
                    order.guidance,
                )
            self.metrics.batch_images.observe(len(x_t))
            noise = np.split(x_t, np.cumsum(counts)[:-1])
        for job, images in zip(jobs, noise, strict=True):
            if not job.done.done():
                job.done.set_result(images)
                self.metrics.images.inc(job.order.count)
