"""`python -m models.checkpoints`, the same as `retouch weights`, where only the networks are installed."""

import sys

from models.checkpoints.command import main

sys.exit(main())
