"""Who learns: small built-in networks."""

from tutelage.students.bag import bag
from tutelage.students.cnn import cnn
from tutelage.students.depthwise import depthwise
from tutelage.students.gpt import gpt
from tutelage.students.mixer import mixer
from tutelage.students.mlp import mlp
from tutelage.students.resnet import resnet
from tutelage.students.unet import unet
from tutelage.students.vgg import vgg
from tutelage.students.vit import vit
from tutelage.students.wide_resnet import wide_resnet

__all__ = ["bag", "cnn", "depthwise", "gpt", "mixer", "mlp", "resnet", "unet", "vgg", "vit", "wide_resnet"]
