"""Print what pyproject.toml requires: `torch` alone, or an extra's list with everything else.

The libraries get an image layer of their own this way, one that a change of the code does not touch.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
[torch] = [line for line in project["dependencies"] if line.startswith("torch==")]
if sys.argv[1] == "torch":
    print(torch)
else:
    print(*project["dependencies"], *project["optional-dependencies"][sys.argv[1]], sep="\n")
