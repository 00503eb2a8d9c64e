"""`python -m models.training CONFIG --data DIR`: training where nothing of the service is installed."""

import sys

from models.training.command import main

sys.exit(main())
