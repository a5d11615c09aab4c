"""Images from a network: compiled sampling loops, kept and run in pieces."""

import collections
import itertools

import numpy as np
import tensorflow as tf

from keras_unet_diffusion import noise as random_numbers
from keras_unet_diffusion.generation_request import make_request
from keras_unet_diffusion.guidance import AutoGuidance
from keras_unet_diffusion.network_calls import (
    NetworkCalls,
    network_function,
    network_image_shape,
)
from keras_unet_diffusion.progress import Progress
from keras_unet_diffusion.samplers import (
    Path,
    RePaint,
    RestOfPath,
    ReversedPath,
    advance,
    start,
)

# Of x_t in the loops; networks are called in float32.
LOOP_DTYPE = "float64"
# Compiled loops that a generator keeps: those of guidance hold networks.
_MOST_FUNCTIONS = 32


def sampling_loop(network, process, task, function=None):
    """Makes the function that takes some steps of a task.

    Args:
        network: see `DiffusionModel`.
        process: the `DiffusionProcess` that it was trained with.
        task: a `Task`.
        function: see `NetworkCalls`.

    Returns:
        A function of a dict of variables (see `samplers.start`), first, last,
        num_steps and first_image (int32), seed (int64), guidance_scale
        (float64), and where they are needed labels, others, skipped_steps
        (int32), and images and mask to inpaint. It returns the variables.
    """

    def run(inputs):
        x_t = inputs["variables"][0]
        num_images, image_shape = tf.shape(x_t)[0], tuple(x_t.shape[1:])
        calls = NetworkCalls(
            network,
            process,
            function,
            inputs.get("labels"),
            inputs.get("others", {}),
        )
        sampler = task.sampler
        path = Path(process.schedule, sampler, inputs["num_steps"], x_t.dtype)
        if "skipped_steps" in inputs:
            path = RestOfPath(path, inputs["skipped_steps"])
        if task.inverts:
            path = ReversedPath(path)
        if task.num_resamples is not None:
            sampler = RePaint(
                sampler, inputs["images"], inputs["mask"], task.num_resamples
            )

        def denoise(x_t, point, x_0):
            now = calls.after(x_0)
            if task.guidance is None:
                return now.conditional(x_t, point)
            scale = inputs["guidance_scale"]
            return task.guidance(now, x_t, point, scale)

        def draw_noise(step, k):  # stream 0 is x_1
            stream = tf.cast(step, tf.int64) + 1 + 2**32 * tf.cast(k, tf.int64)
            images = random_numbers.normal_images(
                inputs["seed"],
                stream,
                num_images,
                image_shape,
                inputs["first_image"],
            )
            return tf.cast(images, x_t.dtype)

        return advance(
            sampler,
            denoise,
            inputs["variables"],
            path,
            inputs["first"],
            inputs["last"],
            draw_noise,
        )

    return run


class ImageGenerator:
    """Generates images by one network, with its loops compiled and kept.

    `DiffusionModel.generate` is the usual way to it; use it alone for a
    network that has no model around it.

    Args:
        network: a built `keras.Model`, see `DiffusionModel`.
        process: the `DiffusionProcess` that it was trained with.
        jit_compile: bool. Whether XLA compiles the network.

    Example:

    ```python
    generator = ImageGenerator(network, process)
    images = generator.generate(16, num_steps=50, seed=0)
    ```
    """

    def __init__(self, network, process, jit_compile=False):
        self.network = network
        self.process = process
        self.jit_compile = jit_compile
        self.functions = collections.OrderedDict()
        self._network_functions = {}

    def generate(
        self,
        num_images,
        labels=None,
        num_steps=50,
        seed=None,
        sampler="ddim",
        guidance_scale=1.0,
        guidance=None,
        batch_size=None,
        image_size=None,
        low_resolution_images=None,
        num_frames=None,
        verbose="auto",
    ):
        """See `DiffusionModel.generate`."""
        image_shape = self.image_shape(image_size)
        request = self.request(
            num_images,
            labels=labels,
            num_steps=num_steps,
            seed=seed,
            sampler=sampler,
            guidance_scale=guidance_scale,
            guidance=guidance,
            batch_size=batch_size,
            low_resolution_images=low_resolution_images,
            verbose=verbose,
        )

        def noise(first, count):
            return self.initial(request, image_shape, first, count)

        return self.run(request, noise, num_frames)

    def initial(self, request, image_shape, first, count):
        """Noise at the first point of the path, images `first` and on."""
        return self.scaled(
            request, self.noise(request.seed, image_shape, first, count)
        )

    def scaled(self, request, noise):
        """Standard normal noise scaled to the first point of the path."""
        return request.task.sampler.initial(noise, self._path(request))

    def noise(self, seed, image_shape, first, count):
        """The standard normal noise that images begin from."""
        x_1 = random_numbers.normal_images(
            tf.constant(seed, tf.int64), 0, count, image_shape, first
        )
        return tf.cast(x_1, LOOP_DTYPE)

    def point(self, request, i):
        """The `Point` where step `i` of the whole path begins."""
        return self._path(request)(tf.constant(i, tf.int32))

    def _path(self, request):
        steps = tf.constant(request.num_steps, tf.int32)
        return Path(
            self.process.schedule, request.task.sampler, steps, LOOP_DTYPE
        )

    def request(self, num_images, **options):
        """Checks what was asked for; see `make_request`."""
        return make_request(self.network, self.process, num_images, **options)

    def run(self, request, noisy_images, num_frames=None):
        """Runs a request in batches.

        Args:
            request: a `Request`.
            noisy_images: function of the number of the first image and of how
                many to the images that the loop begins with.
            num_frames: int >= 2 or None. Images on the way to return too.

        Returns:
            float32 array `(num_images, height, width, channels)`; with
            `num_frames` also one of shape `(num_frames, num_images, height,
            width, channels)`, from noise to image.
        """
        self._check_begin(request)
        stops = request.stops(num_frames)
        progress = Progress(request)
        batches = []
        for first in range(0, request.num_images, request.batch_size):
            count = min(request.batch_size, request.num_images - first)
            x_t = noisy_images(first, count)
            inputs = self._inputs(request, x_t, first, count)
            function = self.function(request.task, inputs)
            frames = [x_t]
            for begin, end in itertools.pairwise([0, *stops]):
                for at, last in progress.pieces(begin, end):
                    inputs["first"] = tf.constant(at, tf.int32)
                    inputs["last"] = tf.constant(last, tf.int32)
                    inputs["variables"] = function(inputs)
                    progress.done(inputs["variables"][0], last - at, count)
                frames.append(inputs["variables"][0])
            wanted = frames[-1:] if num_frames is None else frames
            batches.append(np.stack([x.numpy() for x in wanted]))
        frames = np.concatenate(batches, axis=1).astype("float32")
        return frames[-1] if num_frames is None else (frames[-1], frames)

    def _check_begin(self, request):
        """Where there is no image, some predictions say nothing of it."""
        if request.task.inverts:
            return
        point = self.point(request, request.skipped_steps)
        prediction = self.process.prediction
        a, b = prediction.coefficients(point.alpha, point.sigma)
        if float(point.alpha * b - point.sigma * a) == 0:
            raise ValueError(
                "The network says nothing of the image where there is noise "
                f"alone, and sampling begins there. Received: {prediction!r} "
                f"with {self.process.schedule!r} and the grid "
                f"{request.task.sampler.used_grid!r}. Train with "
                "VelocityPrediction(), or sample on a KarrasGrid()."
            )

    def _inputs(self, request, x_t, first, count):
        arrays = {
            name: tf.constant(array[first : first + count])
            for name, array in request.arrays.items()
        }
        others = {
            name: arrays.pop(name)
            for name in ("low_resolution_images",)
            if name in arrays
        }
        return {
            "variables": start(request.task.sampler, x_t),
            "first": tf.constant(0, tf.int32),
            "last": tf.constant(0, tf.int32),
            "num_steps": tf.constant(request.num_steps, tf.int32),
            "skipped_steps": tf.constant(request.skipped_steps, tf.int32),
            "seed": tf.constant(request.seed, tf.int64),
            "first_image": tf.constant(first, tf.int32),
            "guidance_scale": tf.constant(request.guidance_scale, LOOP_DTYPE),
            "others": others,
        } | arrays

    def function(self, task, inputs):
        """The compiled loop of a task; batch size and steps are dynamic."""
        signature = tf.nest.map_structure(_any_batch, inputs)
        key = (task, str(signature))
        if key not in self.functions:
            loop = sampling_loop(
                self.network, self.process, task, self._network_function
            )
            # Traced here, not when called: TensorFlow would warn that many
            # samplers are many traces.
            self.functions[key] = tf.function(
                loop, autograph=False
            ).get_concrete_function(signature)
        self.functions.move_to_end(key)
        if len(self.functions) > _MOST_FUNCTIONS:
            self._forget_oldest()
        return self.functions[key]

    def _forget_oldest(self):
        self.functions.popitem(last=False)
        guides = [
            task.guidance.network
            for task, _ in self.functions
            if isinstance(task.guidance, AutoGuidance)
        ]
        used = {id(network) for network in (self.network, *guides)}
        self._network_functions = {
            key: function
            for key, function in self._network_functions.items()
            if key in used
        }

    def _network_function(self, network):
        """The one compiled function of a network."""
        if id(network) not in self._network_functions:
            self._network_functions[id(network)] = network_function(
                network, self.jit_compile
            )
        return self._network_functions[id(network)]

    def image_shape(self, image_size=None):
        """Height, width and channels of the images that are made.

        Args:
            image_size: int, height and width in pixels, for a network of any
                size; None otherwise.

        Raises:
            ValueError: a size is missing, superfluous, or does not fit.
        """
        height, width, channels = network_image_shape(self.network)
        if height is not None and width is not None:
            if image_size not in (None, height):
                raise ValueError(
                    f"The network makes images of {height} pixels. Received: "
                    f"image_size={image_size}. Leave image_size out."
                )
            return height, width, channels
        stride = getattr(self.network, "total_stride", 1)
        if image_size is None or image_size < 1 or image_size % stride:
            raise ValueError(
                "The network takes images of any size, so one must be given, "
                f"a multiple of {stride}. Received: image_size={image_size}. "
                "Pass height and width in pixels as one number."
            )
        return image_size, image_size, channels


def _any_batch(x):
    shape = [None, *x.shape[1:]] if len(x.shape) else []
    return tf.TensorSpec(shape, x.dtype)
