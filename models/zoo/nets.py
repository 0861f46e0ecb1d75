"""The networks that elek means to run, quantized, with what ONNX Runtime makes of them.

    python models/zoo/nets.py OUT [--width 0.25] [--size 64] [--only NAME,NAME]

Real weights are not to be had here. These are integers drawn from a generator that Rust has as well (`drawn`, and
tests/common/nets.rs), so that a file needs to hold none of them; the batch norms get the statistics of noise pictures
that run through the net, so that activations keep a sane range from layer to layer, and the last layer is taught to tell
ten kinds of noise apart. Each net is torchvision's (or put
together from them, below), exported by torch and quantized by ONNX Runtime: u8 activations, s8 weights by channel,
calibrated on noise pictures. What its quantizer wrote is kept, but the weights that are the drawn ones again.

OUT/NAME.net is deflated: the graph without weights; side of the picture, number of pictures (drawn too); multiply-
accumulates; for each picture the output of ONNX Runtime operator by operator (optimisation off), and how far its own
fused graph is from that, at most and in the mean. Numbers are little-endian, blocks have a u32 length.
tests/int8_nets.rs compares elek with these.
"""

import argparse
import pathlib
import struct
import tempfile
import zlib

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torchvision
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn
from torchvision.models import efficientnet, resnet

MASK = (1 << 64) - 1
CLASSES = 10


def seed_of(name):
    """FNV-1a."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 & MASK
    return seed


def noise(seed, count):
    """Numbers i = 1, 2, … of splitmix64."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def drawn(name, shape):
    """Weights from -127 to 127 by the name of their tensor: near a bell, and 127 once in each output channel."""
    seed = seed_of(name)
    count = int(np.prod(shape))
    z = noise(seed, count)
    total = sum(((z >> np.uint64(8 * i)) & np.uint64(255)).astype(np.int64) for i in range(4))
    ints = np.maximum((total - 510) >> 2, -127).reshape(shape[0], -1)
    depth = ints.shape[1]
    for channel in range(shape[0]):
        ints[channel, channel * 7 % depth] = -127 if channel % 2 else 127
    return ints.reshape(shape).astype(np.int8)


def picture(number, size):
    """About -2.5 to 2.5, of squares of 16, 4 and 1 pixels; the larger ones are those of its class, number % 10."""
    x = np.zeros((3, size, size), np.int64)
    for square, seed in ((16, number % CLASSES), (4, number % CLASSES), (1, number)):
        n = -(-size // square)
        z = noise(seed_of(f"picture {seed} of {square}"), 3 * n * n).reshape(3, n, n)
        bytes_ = (z & np.uint64(255 if square > 1 else 127)).astype(np.int64)
        x += bytes_.repeat(square, 1).repeat(square, 2)[:, :size, :size]
    return ((x - 319).astype(np.float32) / np.float32(128))[None]


def scaled(channels, width):
    return max(8, int(channels * width + 4) // 8 * 8)


class ResNet(resnet.ResNet):
    """torchvision's with every width scaled."""

    def __init__(self, layers, width):
        super().__init__(resnet.Bottleneck, layers, num_classes=CLASSES)
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
    net = efficientnet.EfficientNet(conf, dropout=0.0, stochastic_depth_prob=0.0, last_channel=last, num_classes=CLASSES)
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


def settle(net, size):
    """Draws the weights and lets the batch norms see pictures."""
    # A loud picture gets louder in each SiLU and each gate, until it is all that the batch norms measure. Trained nets
    # do not do so; here the norms keep the signal small beside its offset.
    gated = any(isinstance(m, nn.SiLU) for m in net.modules())
    gains, middle, spread = ((0.2, 0.4), 0.3, 0.4) if gated else ((0.5, 1.0), 0.0, 0.2)
    for name, m in net.named_modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            ints = drawn(f"{name}.weight", m.weight.shape)
            m.weight.data = torch.from_numpy(ints * short(1.4 / (38 * np.sqrt(ints[0].size))))
            if m.bias is not None:
                nn.init.normal_(m.bias, 0, 0.1)
        elif isinstance(m, nn.BatchNorm2d):
            m.momentum = None
            nn.init.uniform_(m.weight, *gains)
            nn.init.normal_(m.bias, middle, spread)
    for m in net.modules():
        # Branches add little to what passes by, as in trained nets; else each block would double the range, and a
        # rounding the other way at the beginning would be all that is seen at the end of 50 blocks.
        if isinstance(m, resnet.Bottleneck):
            nn.init.uniform_(m.bn3.weight, 0.05, 0.15)
        elif isinstance(m, efficientnet.MBConv):
            nn.init.uniform_(m.block[-1][1].weight, 0.1, 0.3)
    net.train()
    with torch.no_grad():
        net(torch.from_numpy(np.concatenate([picture(i, size) for i in range(100, 130 if size < 100 else 120)])))
    net.eval()
    fold(net)
    heads = [m for m in net.modules() if isinstance(m, nn.Linear)]
    if heads:
        teach(net, heads[-1], size)


def teach(net, head, size):
    """The last layer names the class with the nearest mean. Drawn like the others it would tell nothing apart: the best
    two of ten labels would be as near to each other as one rounding the other way moves them."""
    features = []
    hook = head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    with torch.no_grad():
        net(torch.from_numpy(np.concatenate([picture(i, size) for i in range(300, 300 + 4 * CLASSES)])))
        hook.remove()
        means = features[0].reshape(4, CLASSES, -1).mean(0)
        middle = means.mean(0)
        away = means - middle
        gain = 4 / (away * away).sum(1).mean()
        head.weight.data = gain * away
        head.bias.data = -gain * ((away * away).sum(1) / 2 + away @ middle)


def short(x):
    """Eight bits of mantissa: 127 times it is exact, so that the quantizer finds the drawn integers again."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    return np.ldexp(np.round(mantissa * 256) / 256, exponent).astype(np.float32)


def fold(module):
    """Batch norms into the convolutions before them, with scales of few bits."""
    before = None
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            with torch.no_grad():
                ints, base = before.weight.numpy(), 1.0
                base = np.abs(ints).reshape(len(ints), -1).max(1) / 127
                gain = (child.weight / torch.sqrt(child.running_var + child.eps)).numpy()
                ints = np.round(ints / base.reshape(-1, 1, 1, 1))
                bias = before.bias.numpy() if before.bias is not None else 0
                bias = child.bias.numpy() + (bias - child.running_mean.numpy()) * gain
                before.weight.data = torch.from_numpy((ints * short(base * gain).reshape(-1, 1, 1, 1)).astype(np.float32))
                before.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))
            setattr(module, name, nn.Identity())
        elif isinstance(child, nn.Conv2d):
            before = child
        else:
            fold(child)


class Pictures(CalibrationDataReader):
    def __init__(self, size):
        self.left = [{"image": picture(200 + i, size)} for i in range(CLASSES)]

    def get_next(self):
        return self.left.pop() if self.left else None


def strip(model):
    """Takes the weights away that can be drawn (all but the last layer's), and what says where a node was made."""
    left = 0
    for tensor in model.graph.initializer:
        name = tensor.name.removesuffix("_quantized")
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) >= 2:
            if np.array_equal(numpy_helper.to_array(tensor), drawn(name, tuple(tensor.dims))):
                tensor.raw_data = b""
            else:
                assert tensor.dims[0] == CLASSES, f"{tensor.name} are not the weights that were drawn"
        left += len(tensor.raw_data)
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    del model.graph.value_info[:]
    del model.metadata_props[:]
    return left


def macs_of(path):
    """Of convolutions and matrix products, padding included."""
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in [*model.graph.value_info, *model.graph.output]}
    weights = {t.name: list(t.dims) for t in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            w = weights[node.input[1]]
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(w[1:]))
    return total


def build(name, width, size, out):
    torch.manual_seed(2024)
    net = NETS[name](width)
    settle(net, size)
    with tempfile.TemporaryDirectory() as folder:
        path, int8 = pathlib.Path(folder, "f32.onnx"), pathlib.Path(folder, "int8.onnx")
        torch.onnx.export(net, torch.from_numpy(picture(0, size)), str(path), input_names=["image"],
                          output_names=["output"], opset_version=17, dynamo=False)
        quant_pre_process(str(path), str(path), skip_symbolic_shape=True, skip_optimization=True)
        macs = macs_of(path)
        quantize_static(str(path), str(int8), Pictures(size), quant_format=QuantFormat.QDQ,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True)
        fused, unfused = session(int8, True), session(int8, False)
        model = onnx.load(str(int8))
    stripped = strip(model)
    block = lambda data: struct.pack("<I", len(data)) + data
    count = 4 if "unet" in name else 2 * CLASSES
    data = block(model.SerializeToString()) + struct.pack("<IIQ", size, count, macs)
    worst, margins = [], []
    for i in range(count):
        a, b = (s.run(None, {"image": picture(i, size)})[0] for s in (fused, unfused))
        distance = np.abs(a.astype(np.float64) - b)
        data += block(b.astype("<f4").tobytes()) + struct.pack("<ff", distance.max(), distance.mean())
        worst.append((distance.max(), distance.mean()))
        margins.append(b.std())
    packed = zlib.compress(data, 9)
    (out / f"{name}.net").write_bytes(packed)
    print(f"{name}: {len(model.graph.node)} nodes, {macs / 1e6:.1f} MMAC, {len(packed)} bytes ({stripped} in initializers), "
          f"ONNX Runtime differs from itself by {max(w[0] for w in worst):.5f}, {np.mean([w[1] for w in worst]):.6f} in the mean, "
          f"outputs vary by {np.mean(margins):.4f}", flush=True)


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
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in NETS:
        if not args.only or name in args.only.split(","):
            build(name, args.width, args.size, args.out)


if __name__ == "__main__":
    main()
