"""The memory that a network's forward pass takes, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

MEASURE = """
import json, resource, sys, torch, models
name, side, arguments = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
torch.set_num_threads(1)
net = models.create(name, **arguments).eval()
def run(side):
    net(torch.rand(1, 3, side, side), torch.ones(1, 1, side, side))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.inference_mode():
    before = run(net.minimum)
    print((run(side) - before) * 1024)
"""


def peak_growth(name: str, side: int, **arguments: Any) -> float:
    """Bytes by which a network's process grows from its smallest picture to one of `side`."""
    command = [sys.executable, "-c", MEASURE, name, str(side), json.dumps(arguments)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
