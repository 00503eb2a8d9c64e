"""Networks that fill holes; importing one enters it into the registry."""

from models.inpainting import aot_gan as aot_gan
from models.inpainting import comodgan as comodgan
from models.inpainting import context_encoder as context_encoder
from models.inpainting import deepfill_v1 as deepfill_v1
from models.inpainting import deepfill_v2 as deepfill_v2
from models.inpainting import edge_connect as edge_connect
from models.inpainting import foreground_aware as foreground_aware
from models.inpainting import gcpr as gcpr
from models.inpainting import glcic as glcic
from models.inpainting import guided_patchmatch as guided_patchmatch
from models.inpainting import hifill as hifill
from models.inpainting import lama as lama
from models.inpainting import madf as madf
from models.inpainting import mat as mat
from models.inpainting import migan as migan
from models.inpainting import neural_patch as neural_patch
from models.inpainting import partial_conv as partial_conv
from models.inpainting import patch_swap as patch_swap
from models.inpainting import patchmatch as patchmatch
from models.inpainting import pen_net as pen_net
from models.inpainting import pmr as pmr
from models.inpainting import region_norm as region_norm
from models.inpainting import region_wise as region_wise
from models.inpainting import structure as structure
