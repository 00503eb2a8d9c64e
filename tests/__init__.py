import os

# Tests import torch before the packages that would say it (see service/__init__.py).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
