"""The loop that samples: what some steps of a task do, ready to compile."""

from keras import ops

from keras_unet_diffusion import noise as random_numbers
from keras_unet_diffusion.network_calls import NetworkCalls
from keras_unet_diffusion.samplers import (
    Path,
    RePaint,
    RestOfPath,
    ReversedPath,
    advance,
)

# Of x_t in the loops; networks are called in float32.
LOOP_DTYPE = "float64"


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
        num_images, image_shape = ops.shape(x_t)[0], tuple(x_t.shape[1:])
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
            stream = ops.cast(step, "int64") + 1 + 2**32 * ops.cast(k, "int64")
            images = random_numbers.normal_images(
                inputs["seed"],
                stream,
                num_images,
                image_shape,
                inputs["first_image"],
            )
            return ops.cast(images, x_t.dtype)

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
