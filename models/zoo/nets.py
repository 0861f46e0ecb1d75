"""The networks that elek means to run, as quantized ONNX files: torchvision's topologies with seeded weights.

    python models/zoo/nets.py OUT [--width 0.25] [--size 64] [--only NAME] [--form qdq|qoperator]

Real weights are not to be had here; these are drawn (He), and the batch norms get the statistics of noise pictures that
run through the net, so that activations keep a sane range from layer to layer. Each net is exported by torch, then
quantized by ONNX Runtime (u8 activations, s8 weights by channel, calibrated on noise pictures). Beside each
NAME.int8.onnx, NAME.reference.f32 has three times: a picture, what ONNX Runtime makes of it in integers, and what it
makes of it operator by operator. tests/int8_nets.rs compares elek with these.
"""

import argparse
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torchvision
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn
from torchvision.models import efficientnet, resnet


def scaled(channels, width):
    return max(8, int(channels * width + 4) // 8 * 8)


class ResNet(resnet.ResNet):
    """torchvision's with every width scaled."""

    def __init__(self, layers, width):
        super().__init__(resnet.Bottleneck, layers, num_classes=10)
        if width != 1:
            narrow(self, width)


def narrow(module, width):
    """Scales the channels of all convolutions and batch norms below a module, but those of pictures and classes."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            cin = child.in_channels if child.in_channels == 3 else scaled(child.in_channels, width)
            cout = scaled(child.out_channels, width)
            groups = cin if child.groups == child.in_channels and child.groups > 1 else child.groups
            setattr(module, name, nn.Conv2d(cin, cout, child.kernel_size, child.stride, child.padding,
                                            child.dilation, groups, child.bias is not None))
        elif isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.BatchNorm2d(scaled(child.num_features, width)))
        elif isinstance(child, nn.Linear):
            setattr(module, name, nn.Linear(scaled(child.in_features, width), child.out_features))
        else:
            narrow(child, width)


def efficient(version, width, lite=False):
    mult = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2), 3: (1.2, 1.4), 4: (1.4, 1.8), 5: (1.6, 2.2), 6: (1.8, 2.6), 7: (2.0, 3.1)}
    w, d = mult[version]
    conf, last = efficientnet._efficientnet_conf("efficientnet_b0", width_mult=w * width, depth_mult=d)
    net = efficientnet.EfficientNet(conf, dropout=0.0, stochastic_depth_prob=0.0, last_channel=last, num_classes=10)
    if lite:
        plain(net)
    return net


def plain(module):
    """Lite: without squeeze-and-excite, ReLU6 instead of SiLU."""
    for name, child in module.named_children():
        if type(child).__name__ == "SqueezeExcitation":
            setattr(module, name, nn.Identity())
        elif isinstance(child, nn.SiLU):
            setattr(module, name, nn.ReLU6())
        else:
            plain(child)


class UNet(nn.Module):
    """On a ResNet50: up by nearest, joined with what the encoder had at that size."""

    def __init__(self, width, classes):
        super().__init__()
        e = ResNet([3, 4, 6, 3], width)
        self.stem = nn.Sequential(e.conv1, e.bn1, e.relu)
        self.pool, self.stages = e.maxpool, nn.ModuleList([e.layer1, e.layer2, e.layer3, e.layer4])
        skips = [scaled(c, width) for c in (64, 256, 512, 1024, 2048)]
        ups, c = [], skips[4]
        for skip, out in zip(skips[3::-1], (256, 128, 64, 32)):
            out = scaled(out, width)
            ups.append(nn.Sequential(nn.Conv2d(c + skip, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()))
            c = out
        self.ups, self.head, self.classes = nn.ModuleList(ups), nn.Conv2d(c, classes, 1), classes

    def forward(self, x):
        x = self.stem(x)
        skips, x = [x], self.pool(x)
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for up in self.ups:
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = up(torch.cat([x, skips.pop()], 1))
        x = nn.functional.interpolate(self.head(x), scale_factor=2.0, mode="bilinear")
        return torch.sigmoid(x) if self.classes == 1 else x


class Hybrid(nn.Module):
    """VGG16's features, brought back up to a picture for a ResNet50 by 1 × 1 convolutions."""

    def __init__(self, width):
        super().__init__()
        self.vgg = torchvision.models.vgg16_bn(weights=None).features
        narrow(self.vgg, width)
        self.join = nn.Conv2d(scaled(512, width), 3, 1)
        self.resnet = ResNet([3, 4, 6, 3], width)

    def forward(self, x):
        x = nn.functional.interpolate(self.vgg(x), scale_factor=32.0, mode="nearest")
        return self.resnet(self.join(x))


NETS = {
    "resnet50": lambda w: ResNet([3, 4, 6, 3], w),
    "resnet101": lambda w: ResNet([3, 4, 23, 3], w),
    "resnet152": lambda w: ResNet([3, 8, 36, 3], w),
    **{f"efficientnet_b{v}": (lambda w, v=v: efficient(v, w)) for v in range(8)},
    "efficientnet_lite0": lambda w: efficient(0, w, lite=True),
    "vgg16_resnet50": Hybrid,
    "unet_resnet50": lambda w: UNet(w, 1),
    "unet_resnet50_4": lambda w: UNet(w, 4),
}


def noise(n, size, seed):
    """Pictures with large and small structures, about -2 to 2."""
    g = torch.Generator().manual_seed(seed)
    x = sum(nn.functional.interpolate(torch.randn(n, 3, max(1, size // s), max(1, size // s), generator=g), size=(size, size), mode="bilinear")
            for s in (1, 4, 16))
    return x / 1.7


def settle(net, size):
    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            m.momentum = None
            nn.init.uniform_(m.weight, 0.5, 1.0)
            nn.init.normal_(m.bias, 0, 0.2)
    for m in net.modules():
        # Branches add little to what passes by, as in trained nets; else each block would double the range.
        last = m.bn3 if isinstance(m, resnet.Bottleneck) else m.block[-1][1] if isinstance(m, efficientnet.MBConv) else None
        if last is not None:
            nn.init.uniform_(last.weight, 0.1, 0.3)
    net.train()
    with torch.no_grad():
        net(noise(16, size, 1))
    net.eval()


class Pictures(CalibrationDataReader):
    def __init__(self, size):
        self.left = [{"image": noise(1, size, 100 + i).numpy()} for i in range(4)]

    def get_next(self):
        return self.left.pop() if self.left else None


def build(name, width, size, form, out):
    torch.manual_seed(2024)
    net = NETS[name](width)
    settle(net, size)
    path = out / f"{name}.onnx"
    torch.onnx.export(net, noise(1, size, 7), str(path), input_names=["image"], output_names=["output"], opset_version=17, dynamo=False)
    quant_pre_process(str(path), str(path), skip_symbolic_shape=True)
    int8 = out / f"{name}.int8.onnx"
    quantize_static(str(path), str(int8), Pictures(size), quant_format=QuantFormat.QDQ if form == "qdq" else QuantFormat.QOperator,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True)
    path.unlink()
    fused, unfused = session(int8, True), session(int8, False)
    worst = 0.0
    with open(out / f"{name}.reference.f32", "wb") as file:
        for i in range(3):
            x = noise(1, size, 1000 + i).numpy()
            a, b = (s.run(None, {"image": x})[0] for s in (fused, unfused))
            worst = max(worst, float(np.abs(a - b).max()))
            for values in (x, a, b):
                file.write(values.astype("<f4").tobytes())
    model = onnx.load(str(int8))
    print(f"{name}: {len(model.graph.node)} nodes, {int8.stat().st_size / 1e6:.1f} MB, "
          f"ONNX Runtime differs from itself by {worst:.4f}", flush=True)


def session(path, fused):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if fused else level.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main():
    args = argparse.ArgumentParser()
    args.add_argument("out", type=pathlib.Path)
    args.add_argument("--width", type=float, default=1.0)
    args.add_argument("--size", type=int, default=224)
    args.add_argument("--only")
    args.add_argument("--form", default="qdq")
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in NETS:
        if not args.only or name in args.only.split(","):
            build(name, args.width, args.size, args.form, args.out)


if __name__ == "__main__":
    main()
