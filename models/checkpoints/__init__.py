"""Public checkpoints in: importing this enters every importer."""

from models.checkpoints import aot_gan as aot_gan
from models.checkpoints import comodgan as comodgan
from models.checkpoints import context_encoder as context_encoder
from models.checkpoints import deepfill as deepfill
from models.checkpoints import edge_connect as edge_connect
from models.checkpoints import esrgan as esrgan
from models.checkpoints import gcpr as gcpr
from models.checkpoints import glcic as glcic
from models.checkpoints import hifill as hifill
from models.checkpoints import lama as lama
from models.checkpoints import madf as madf
from models.checkpoints import mat as mat
from models.checkpoints import meta_edsr as meta_edsr
from models.checkpoints import meta_rdn as meta_rdn
from models.checkpoints import migan as migan
from models.checkpoints import neural_patch as neural_patch
from models.checkpoints import partial_conv as partial_conv
from models.checkpoints import pen_net as pen_net
from models.checkpoints import region_norm as region_norm
from models.checkpoints import region_wise as region_wise
from models.checkpoints import srvgg as srvgg
from models.checkpoints.importer import (
    CheckpointError,
    Importer,
    import_public,
    importers,
    load_public,
    recognise,
)

__all__ = ["CheckpointError", "Importer", "import_public", "importers", "load_public", "recognise"]
