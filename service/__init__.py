"""The service: HTTP, batching, caching."""

import os

__version__ = "0.1.0"

# Before torch loads its thread pool: by default its idle threads spin, so that on a machine where anything
# else runs, each small operation waits for a whole time slice. Measured beside one busy process on two cores:
# patchmatch 30 s spinning, 0.9 s sleeping; meta-sr-small 5.5 s and 1.1 s.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
