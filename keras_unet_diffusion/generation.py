"""Images from a network: compiled sampling loops, kept and run in pieces."""

import collections
import functools
import itertools

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion import noise as random_numbers
from keras_unet_diffusion.backends import compiled, in_float64, is_jax
from keras_unet_diffusion.generation_request import make_request
from keras_unet_diffusion.network_calls import (
    network_function,
    network_image_shape,
)
from keras_unet_diffusion.paths import first_deviation, path_point
from keras_unet_diffusion.progress import Progress
from keras_unet_diffusion.samplers import start
from keras_unet_diffusion.sampling_loop import LOOP_DTYPE, sampling_loop

# Compiled loops that a generator keeps: those of guidance hold networks.
_MOST_FUNCTIONS = 32


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
        self._noise_functions = {}

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

    @in_float64
    def scaled(self, request, noise):
        """Standard normal noise scaled to the first point of the path."""
        scale = first_deviation(
            self.process.schedule, request.task.sampler, request.num_steps
        )
        return ops.convert_to_tensor(noise) * scale

    @in_float64
    def noise(self, seed, image_shape, first, count):
        """The standard normal noise that images begin from."""
        inputs = {
            "seed": _scalar(seed, "int64"),
            "first": _scalar(first, "int64"),
        }
        key = (tuple(image_shape), count)
        if key not in self._noise_functions:
            self._noise_functions[key] = compiled(
                functools.partial(_noise, image_shape, count), inputs, ()
            )
        return self._noise_functions[key](inputs)

    def point(self, request, i):
        """The `Point` where step `i` of the whole path begins, numbers."""
        return path_point(
            self.process.schedule, request.task.sampler, request.num_steps, i
        )

    def request(self, num_images, **options):
        """Checks what was asked for; see `make_request`."""
        return make_request(self.network, self.process, num_images, **options)

    @in_float64
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
            inputs = self._inputs(request, noisy_images, first, count)
            function = self.function(request.task, inputs)
            frames = [inputs["variables"][0]]
            for begin, end in itertools.pairwise([0, *stops]):
                for at, last in progress.pieces(begin, end):
                    inputs["first"] = _scalar(at, "int32")
                    inputs["last"] = _scalar(last, "int32")
                    inputs["variables"] = function(inputs)
                    progress.done(inputs["variables"][0], last - at, count)
                frames.append(inputs["variables"][0])
            wanted = frames[-1:] if num_frames is None else frames
            arrays = [ops.convert_to_numpy(x[:count]) for x in wanted]
            batches.append(np.stack(arrays))
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

    def _inputs(self, request, noisy_images, first, count):
        """What the loop is called with for the images from `first` on."""
        arrays = {"x_t": noisy_images(first, count)} | {
            name: array[first : first + count]
            for name, array in request.arrays.items()
        }
        if first and is_jax():
            # Else the last batch would be compiled for itself.
            arrays = _padded(arrays, request.batch_size - count)
        arrays = keras.tree.map_structure(ops.convert_to_tensor, arrays)
        name = "low_resolution_images"
        others = {name: arrays.pop(name)} if name in arrays else {}
        return {
            "variables": start(request.task.sampler, arrays.pop("x_t")),
            "first": _scalar(0, "int32"),
            "last": _scalar(0, "int32"),
            "num_steps": _scalar(request.num_steps, "int32"),
            "skipped_steps": _scalar(request.skipped_steps, "int32"),
            "seed": _scalar(request.seed, "int64"),
            "first_image": _scalar(first, "int32"),
            "guidance_scale": _scalar(request.guidance_scale, LOOP_DTYPE),
            "others": others,
        } | arrays

    def function(self, task, inputs):
        """The compiled loop of a task; batch size and steps are dynamic."""
        key = (task, str(keras.tree.map_structure(_any_batch, inputs)))
        if key not in self.functions:
            loop = sampling_loop(
                self.network, self.process, task, self._network_function
            )
            self.functions[key] = compiled(
                loop, inputs, [self.network, *task.networks]
            )
        self.functions.move_to_end(key)
        if len(self.functions) > _MOST_FUNCTIONS:
            self._forget_oldest()
        return self.functions[key]

    def _forget_oldest(self):
        self.functions.popitem(last=False)
        guides = [x for task, _ in self.functions for x in task.networks]
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


def _scalar(number, dtype):
    # By numpy, which knows that a seed may need 64 bits.
    return ops.convert_to_tensor(np.asarray(number, dtype))


def _noise(image_shape, count, inputs):
    """Standard normal images, of a seed and from the first on."""
    images = random_numbers.normal_images(
        inputs["seed"], 0, count, image_shape, inputs["first"]
    )
    return ops.cast(images, LOOP_DTYPE)


def _any_batch(x):
    return f"{x.dtype} of rank {len(x.shape)}, {tuple(x.shape[1:])}"


def _padded(arrays, missing):
    """The arrays with their last image repeated so many times."""
    return {
        name: np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1), mode="edge")
        for name, x in keras.tree.map_structure(np.asarray, arrays).items()
    }
