"""`python -m train`: see README.md beside this file."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from keras_unet_diffusion.cli.train import main  # noqa: E402

sys.exit(main())
