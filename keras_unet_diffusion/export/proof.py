"""Every artifact of a model is run elsewhere and compared with Keras."""

import functools
from pathlib import Path

import numpy as np

from keras_unet_diffusion.export import parity, trajectory


class Proof:
    """What the artifacts of one model should return, and did.

    Args:
        folder: where the artifacts are.
        generator: an `ImageGenerator` of the float32 network.
        image_shape: `(height, width, channels)`.
        run_elsewhere: see `parity.run_elsewhere`.

    Attributes:
        rows: list of the rows of the parity table, see `parity.compare`.
        samples: dict of the images that were sampled from the same noise, by
            a caption that names the artifact.
    """

    def __init__(self, folder, generator, image_shape, run_elsewhere):
        self._run_elsewhere = run_elsewhere
        self.folder = Path(folder)
        self.generator = generator
        self.image_size = image_shape[0]
        self.image_shape = image_shape
        self.rows = []
        network, process = generator.network, generator.process
        self.denoise = parity.denoise_cases(network, process, image_shape)
        self.prediction = parity.expected_prediction(network, self.denoise)
        self.cases = trajectory.sample_cases(generator, image_shape)
        self.images = trajectory.expected_samples(generator, self.cases)
        num_steps = self.cases["num_steps"]
        self.samples = {f"Keras, DDIM in {num_steps} steps": self.images}

    @functools.cached_property
    def rounding(self):
        """How far float32 is from float64, see `parity.float32_rounding`."""
        return parity.float32_rounding(
            self.generator.network, self.denoise, self.prediction
        )

    @functools.cached_property
    def samples_rounding(self):
        """What a small error of the noise does to images.

        As large a one as a file may make in any step, which is ten times what
        they were measured to make: so this bounds what twenty steps add up.
        """
        return trajectory.samples_rounding(
            self.generator, self.cases, self.images, parity.FLOAT32_TOLERANCE
        )

    def prove_saved_model(self, samplers):
        """Compares `saved_model/`.

        Args:
            samplers: dict of the `Sampler`s of `generate`, by name.
        """
        path = self.folder / "saved_model"
        calls = [("denoise", self.denoise), ("step", self.cases)]
        calls += [("generate", self._generate_cases(name)) for name in samplers]
        # In one process: it takes ten seconds to load.
        results = self._run_elsewhere("saved_model", path, calls)
        denoised, sampled, *generated = results
        self._add_prediction(path, denoised, is_exact=True)
        self._add_samples(path, "step", sampled, is_exact=True)
        for (name, sampler), result in zip(
            samplers.items(), generated, strict=True
        ):
            expected = parity.expected_images(
                self.generator,
                sampler,
                self._generate_cases(name),
                self.image_size,
            )
            self._add(
                path,
                f"generate {name}",
                result,
                expected,
                is_exact=True,
                rounding=lambda: max(self.rounding, self.samples_rounding),
            )

    def prove_litert(self, name, is_exact):
        """Compares a LiteRT file.

        Args:
            name: str, path of the file in the folder.
            is_exact: bool. Whether it must agree as float32 does.
        """
        path = self.folder / name
        calls = [("denoise", self.denoise), ("generate", self.cases)]
        denoised, generated = self._run_elsewhere("litert", path, calls)
        self._add_prediction(path, denoised, is_exact)
        self._add_samples(path, "generate", generated, is_exact)

    def prove_onnx(self, folder):
        """Compares `denoise.onnx` and `step.onnx`.

        Args:
            folder: str, path in the folder of all artifacts.
        """
        path = self.folder / folder
        calls = [("denoise", self.denoise), ("step", self.cases)]
        denoised, sampled = self._run_elsewhere("onnx", path, calls)
        self._add_prediction(path / "denoise.onnx", denoised, is_exact=True)
        self._add_samples(path / "step.onnx", "step", sampled, is_exact=True)

    def _generate_cases(self, sampler):
        return parity.generate_cases(
            self.generator.network, self.image_shape, sampler
        )

    def _add_prediction(self, path, result, is_exact):
        self._add(
            path,
            "denoise",
            result,
            self.prediction,
            is_exact,
            lambda: self.rounding,
        )

    def _add_samples(self, path, signature, result, is_exact):
        row = self._add(
            path,
            signature,
            result,
            self.images,
            is_exact,
            lambda: self.samples_rounding,
        )
        images = np.asarray(result["output"])
        row |= trajectory.describe_samples(images, self.images)
        psnr = row["psnr_db"]
        distance = "equal to Keras" if psnr is None else f"{psnr:.1f} dB"
        self.samples[f"{row['artifact']} {signature}: {distance}"] = images

    def _add(self, path, signature, result, expected, is_exact, rounding):
        row = parity.compare(
            path.relative_to(self.folder).as_posix(),
            path,
            signature,
            result,
            expected,
            parity.FLOAT32_TOLERANCE if is_exact else None,
            rounding,
        )
        self.rows.append(row)
        return row
