"""Installs keras_unet_diffusion and its commands."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"',
    (ROOT / "keras_unet_diffusion" / "__init__.py").read_text(),
).group(1)

setup(
    name="keras_unet_diffusion",
    version=VERSION,
    description="U-Net diffusion models for Keras 3: TensorFlow and JAX",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # Only the library: train, export and tests stay out of site-packages.
    packages=find_packages(
        include=["keras_unet_diffusion", "keras_unet_diffusion.*"]
    ),
    package_data={
        # Scripts that export runs in other processes; no package, as they
        # must not import this one.
        "keras_unet_diffusion.export": ["runners/*.py"],
        # The page of kud-explain, with its drawing library.
        "keras_unet_diffusion.studies": ["page/*"],
    },
    install_requires=[
        "absl-py>=2.1",
        "ai-edge-litert>=1.3",
        # tensorflow-datasets imports it without requiring it.
        "importlib_resources>=6.0",
        "keras>=3.15.1",
        "ml_dtypes>=0.5",
        "numpy>=2.0",
        "pillow>=11.0",
        "safetensors>=0.6.2",
        "scikit-learn>=1.5",
        "tensorboard>=2.19",
        "tensorflow>=2.21",
        "tensorflow-datasets>=4.9.9",
    ],
    extras_require={
        "examples": [
            "onnxruntime>=1.20",
            "prometheus-client>=0.21",
            "starlette>=0.45",
            "uvicorn>=0.34",
        ],
        # What a whole export needs besides: int8 weights, ONNX files.
        "export": [
            "ai-edge-quantizer>=0.10",
            "onnx>=1.17",
            "onnxruntime>=1.20",
            "tf2onnx>=1.17",
        ],
        "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.30"],
        "gpu": ["tensorflow[and-cuda]>=2.21"],
        "jax": ["jax>=0.10"],
        # Other libraries to check against; the tests pass without them.
        "interop": ["diffusers>=0.36", "hypothesis>=6.100", "torch>=2.6"],
        # Figures of kud-study; without them it measures and prints tables.
        "studies": ["matplotlib>=3.9"],
        "test": [
            "build>=1.2",
            "jax>=0.10",
            # The site is built.
            "mkdocs-material>=9.6",
            "mkdocstrings[python]>=0.30",
            # With starlette and uvicorn, for the example of a server.
            "prometheus-client>=0.21",
            "pytest>=8.0",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "scipy>=1.13",
            "starlette>=0.45",
            "uvicorn>=0.34",
        ],
    },
    entry_points={
        "console_scripts": [
            "kud-train=keras_unet_diffusion.cli.train:main",
            "kud-sample=keras_unet_diffusion.cli.sample:main",
            "kud-export=keras_unet_diffusion.cli.export:main",
            "kud-convert=keras_unet_diffusion.cli.convert:main",
            "kud-explain=keras_unet_diffusion.cli.explain:main",
            "kud-study=keras_unet_diffusion.cli.study:main",
        ]
    },
)
