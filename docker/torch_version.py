"""Print the requirement of torch in pyproject.toml: it is installed alone, from wherever the right build is.

The other libraries are pinned in requirements/.
"""

import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
[torch] = [line for line in project["dependencies"] if line.startswith("torch==")]
print(torch)
