"""Samplers and grids by name, as flags and exported files know them."""

from keras_unet_diffusion.samplers.ddim import DDIM
from keras_unet_diffusion.samplers.ddpm import DDPM
from keras_unet_diffusion.samplers.dpm_solver import DPMSolverPP
from keras_unet_diffusion.samplers.euler import Euler, EulerAncestral
from keras_unet_diffusion.samplers.flow import FlowEuler, FlowHeun
from keras_unet_diffusion.samplers.grids import (
    ExponentialGrid,
    KarrasGrid,
    LeadingGrid,
    LinspaceGrid,
    TrailingGrid,
)
from keras_unet_diffusion.samplers.heun import Heun
from keras_unet_diffusion.samplers.lms import LMS
from keras_unet_diffusion.samplers.loop import Sampler
from keras_unet_diffusion.samplers.unipc import UniPC

SAMPLER_NAMES = {
    "ddpm": DDPM(),
    "ddim": DDIM(),
    "euler": Euler(),
    "euler_ancestral": EulerAncestral(),
    "heun": Heun(),
    "dpm_solver_2": DPMSolverPP(order=2),
    "dpm_solver_3": DPMSolverPP(order=3),
    "dpm_solver_sde": DPMSolverPP(order=2, stochastic=True),
    "unipc": UniPC(),
    "lms": LMS(),
    "flow_euler": FlowEuler(),
    "flow_heun": FlowHeun(),
}
GRID_NAMES = {
    "leading": LeadingGrid(),
    "linspace": LinspaceGrid(),
    "trailing": TrailingGrid(),
    "karras": KarrasGrid(),
    "exponential": ExponentialGrid(),
}


def make_sampler(sampler):
    """Makes a `Sampler` of its name; a `Sampler` is returned as it is.

    Args:
        sampler: a name of `SAMPLER_NAMES`, or a `Sampler`.

    Raises:
        ValueError: there is no sampler of that name.
    """
    if isinstance(sampler, Sampler):
        return sampler
    if isinstance(sampler, str) and sampler in SAMPLER_NAMES:
        return SAMPLER_NAMES[sampler]
    raise ValueError(
        f"There is no such sampler. Received: sampler={sampler!r}. Pass one of "
        f"{', '.join(SAMPLER_NAMES)}, or a Sampler object."
    )
