"""Networks that fill holes; importing one enters it into the registry."""

from models.inpainting import patchmatch as patchmatch
