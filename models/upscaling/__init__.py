"""Networks that enlarge by any factor; importing one enters it into the registry."""

from models.upscaling import esrgan as esrgan
from models.upscaling import meta_edsr as meta_edsr
from models.upscaling import meta_rdn as meta_rdn
from models.upscaling import meta_sr_small as meta_sr_small
from models.upscaling import spandrel as spandrel
from models.upscaling import srvgg as srvgg
