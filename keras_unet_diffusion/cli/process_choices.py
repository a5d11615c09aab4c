"""The parts of a diffusion process, by the names that flags give them."""

from keras_unet_diffusion import diffusion

SCHEDULES = {
    "linear": diffusion.LinearSchedule,
    "scaled_linear": diffusion.ScaledLinearSchedule,
    "cosine": diffusion.CosineSchedule,
    "sigmoid": diffusion.SigmoidSchedule,
    "sigmoid_beta": diffusion.SigmoidBetaSchedule,
    "continuous_cosine": diffusion.ContinuousCosineSchedule,
    "vp": diffusion.VPSchedule,
    "ve": diffusion.VESchedule,
    "edm": diffusion.EDMSchedule,
    "flow": diffusion.FlowSchedule,
}
PREDICTIONS = {
    "noise": diffusion.NoisePrediction,
    "image": diffusion.ImagePrediction,
    "velocity": diffusion.VelocityPrediction,
    "flow": diffusion.FlowPrediction,
    "edm": diffusion.EDMPrediction,
    "score": diffusion.ScorePrediction,
}
WEIGHTINGS = {
    "uniform": diffusion.UniformWeighting,
    "min_snr": diffusion.MinSNRWeighting,
    "soft_min_snr": diffusion.SoftMinSNRWeighting,
    "p2": diffusion.P2Weighting,
    "edm": diffusion.EDMWeighting,
    "sigmoid": diffusion.SigmoidWeighting,
}
TIMES = {
    "uniform": diffusion.UniformTimes,
    "stratified": diffusion.StratifiedTimes,
    "log_normal": diffusion.LogNormalTimes,
    "logit_normal": diffusion.LogitNormalTimes,
    "log_uniform": diffusion.LogUniformTimes,
}
