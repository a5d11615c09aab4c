"""Ways back from noise: one abstract step, one loop, a file per family.

All that a sampler knows about a network is `denoise(x_t, point) -> Estimate`;
all that distinguishes samplers is `step`.
"""

from keras_unet_diffusion.samplers.ddim import DDIM
from keras_unet_diffusion.samplers.ddpm import DDPM
from keras_unet_diffusion.samplers.dpm_solver import DPMSolverPP
from keras_unet_diffusion.samplers.euler import Euler, EulerAncestral
from keras_unet_diffusion.samplers.flow import (
    FlowEuler,
    FlowHeun,
    TwiceShiftedGrid,
)
from keras_unet_diffusion.samplers.grids import (
    ExponentialGrid,
    KarrasGrid,
    LeadingGrid,
    LinspaceGrid,
    TimeGrid,
    TrailingGrid,
)
from keras_unet_diffusion.samplers.heun import Heun
from keras_unet_diffusion.samplers.lms import LMS
from keras_unet_diffusion.samplers.loop import (
    COMPATIBLE,
    Estimate,
    Sampler,
    advance,
    sample,
    start,
)
from keras_unet_diffusion.samplers.names import (
    GRID_NAMES,
    SAMPLER_NAMES,
    make_sampler,
)
from keras_unet_diffusion.samplers.path import Path, RestOfPath, ReversedPath
from keras_unet_diffusion.samplers.repaint import RePaint, add_noise
from keras_unet_diffusion.samplers.thresholding import (
    DynamicThresholding,
    StaticThresholding,
    Thresholding,
    thresholded,
)
from keras_unet_diffusion.samplers.unipc import UniPC

__all__ = [
    "DPMSolverPP",
    "FlowEuler",
    "FlowHeun",
    "Heun",
    "LMS",
    "TwiceShiftedGrid",
    "UniPC",
    "SAMPLER_NAMES",
    "GRID_NAMES",
    "COMPATIBLE",
    "DDIM",
    "DDPM",
    "DynamicThresholding",
    "Estimate",
    "Euler",
    "EulerAncestral",
    "ExponentialGrid",
    "KarrasGrid",
    "LeadingGrid",
    "LinspaceGrid",
    "Path",
    "RePaint",
    "RestOfPath",
    "ReversedPath",
    "Sampler",
    "StaticThresholding",
    "Thresholding",
    "TimeGrid",
    "TrailingGrid",
    "add_noise",
    "advance",
    "make_sampler",
    "sample",
    "start",
    "thresholded",
]
