"""`python -m models.evaluation upscale DIR...`: judging where nothing of the service is installed."""

import sys

from models.evaluation.command import main

sys.exit(main())
