"""`python -m export`: see README.md beside this file."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from keras_unet_diffusion.cli.export import main  # noqa: E402

sys.exit(main())
