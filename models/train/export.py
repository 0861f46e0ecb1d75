"""Exports, quantizes and measures: writes cap-classify.int8.onnx, cap-segment.int8.onnx and manifest.toml.

  python export.py SETS WEIGHTS OUT    # SETS/{train,val,test}, WEIGHTS/{unet,tail}.pt from train.py
"""
import argparse
import collections
import hashlib
import os
import warnings

import numpy as np
import onnx
import onnxruntime
import onnxslim
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from data import LABELS, MASK_LABELS, SIZE, load
from nets import Classifier, Sigmoid, Tail, UNet, macs
from train import MEAN, SCALE

warnings.filterwarnings("ignore")
onnxruntime.set_default_logger_severity(3)

CLASSIFY_MACS_MAX, SEGMENT_MACS_MAX = 400_000_000, 600_000_000
CALIBRATION = 160  # pictures of the training set
SCORE_PASS, AREA_MIN_MM2 = 0.90, 0.8  # what "accepted" and "marked" mean in the figures below


def normalised(pixels):
    x = (pixels.astype(np.float32) - MEAN) / SCALE
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None])


class Reader(CalibrationDataReader):
    def __init__(self, pictures):
        self.left = iter(pictures)

    def get_next(self):
        x = next(self.left, None)
        return None if x is None else {"image": normalised(x)}


def plain_names(model):
    """conv_0, conv_0.w, conv_0.out: short, and the same whatever exported them."""
    names, count = {"image": "image"}, collections.Counter()
    names.update({o.name: o.name for o in model.graph.output})
    constants = {t.name for t in model.graph.initializer}
    for node in model.graph.node:
        kind = node.op_type.lower()
        node.name = f"{kind}_{count[kind]}"
        count[kind] += 1
        for k, i in enumerate(node.input):
            if i in constants:
                names.setdefault(i, f"{node.name}.{'xwb'[k] if k < 3 else k}")
        for o in node.output:
            names.setdefault(o, f"{node.name}.out")
    for node in model.graph.node:
        node.input[:] = [names.get(i, i) for i in node.input]
        node.output[:] = [names.get(o, o) for o in node.output]
    for t in model.graph.initializer:
        t.name = names.get(t.name, t.name)


def export(net, output, path):
    """Opset 17, static 1x3xSIZExSIZE, batch norm folded into Conv."""
    torch.onnx.export(net.eval(), (torch.zeros(1, 3, SIZE, SIZE),), path, opset_version=17, input_names=["image"], output_names=[output], dynamo=False)
    model = onnxslim.slim(onnx.load(path))
    plain_names(model)
    save(model, path)


def save(model, path):
    model.producer_name, model.producer_version, model.doc_string = "", "", ""
    del model.graph.value_info[:], model.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def quantize(f32, int8, pictures):
    """QDQ: activations u8 asymmetric per tensor, weights s8 symmetric per output channel, bias s32.
    The result of the classifier's stem and its first depthwise convolution stay f32: a third of the false rejects
    came from their coarse steps. A mask's last convolution, last resize and sigmoid do, for thin scratches."""
    nodes = onnx.load(f32).graph.node
    named = lambda kind: [n.name for n in nodes if n.op_type == kind]
    classifies = not named("Sigmoid")
    if classifies:
        skip = named("Conv")[:2] + named("Gemm")
    else:
        skip = [named("Conv")[-1], named("Resize")[-1], named("Sigmoid")[-1]]
    quantize_static(f32, int8, Reader(pictures), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=skip)
    model = onnx.load(int8)
    if classifies:
        quantize_stem(model, pictures)
    save(model, int8)


def quantize_stem(model, pictures):
    """The first convolution on integers, its result still f32. The input loses nothing: its steps are those of the camera's bytes."""
    graph = model.graph
    stem = next(n for n in graph.node if n.op_type == "Conv" and n.input[0] == "image")
    constants = {t.name: t for t in graph.initializer}
    weights, bias = (onnx.numpy_helper.to_array(constants[name]) for name in stem.input[1:3])
    step = np.float32(1 / SCALE)
    steps = np.abs(weights).max(axis=(1, 2, 3)) / np.float32(127)
    mean, spread_ = patches(pictures, weights.shape[2])
    bytes_ = np.stack([rounded((w / s).ravel(), spread_) for w, s in zip(weights, steps)]).reshape(weights.shape)
    # What rounding changes in the mean is taken out again.
    lost = (bytes_ * steps[:, None, None, None] - weights).reshape(len(weights), -1) @ mean
    sums = np.rint((bias - lost) / (steps * step)).astype(np.int32)
    nodes = []

    def constant(name, value):
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        return name

    def dequantized(name, value, scale):
        inputs = [constant(f"{name}_quantized", value), constant(f"{name}_scale", scale), constant(f"{name}_zero_point", np.zeros(scale.shape, value.dtype))]
        nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [f"{name}_DequantizeLinear_Output"], f"{name}_DequantizeLinear", axis=0))
        return nodes[-1].output[0]

    grid = [constant("image_scale", step), constant("image_zero_point", np.uint8(MEAN))]
    nodes.append(onnx.helper.make_node("QuantizeLinear", ["image", *grid], ["image_QuantizeLinear_Output"], "image_QuantizeLinear"))
    nodes.append(onnx.helper.make_node("DequantizeLinear", ["image_QuantizeLinear_Output", *grid], ["image_DequantizeLinear_Output"], "image_DequantizeLinear"))
    f32 = list(stem.input[1:3])
    stem.input[:] = ["image_DequantizeLinear_Output", dequantized(f32[0], bytes_, steps), dequantized(f32[1], sums, steps * step)]
    for name in f32:
        graph.initializer.remove(constants[name])
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)


def patches(pictures, size):
    """What a convolution of this size sees in them: mean and covariance of channel × row × column."""
    x = (pictures.astype(np.float32) - MEAN) / SCALE
    seen = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::2, ::2]
    seen = seen.reshape(-1, x.shape[3] * size * size)
    return seen.mean(0), np.cov(seen, rowvar=False)


def rounded(weights, spread_):
    """Bytes near these weights that change least of what the convolution gives: neighbours in a picture are alike,
    so one weight's rounding can make up for another's."""
    q = np.rint(weights)
    while True:
        error = q - weights
        pull = spread_ @ error
        # Of a step up or down of each weight alone: what it adds to the error's variance.
        gain = np.stack([2 * d * pull + np.diag(spread_) for d in (1, -1)])
        gain[0, q >= 127], gain[1, q <= -127] = np.inf, np.inf
        way, at = np.unravel_index(gain.argmin(), gain.shape)
        if gain[way, at] >= -1e-9:
            return q.astype(np.int8)
        q[at] += (1, -1)[way]


def runner(path):
    """One thread; int8 with the optimiser off: float arithmetic between DequantizeLinear and QuantizeLinear, as tract runs it."""
    o = onnxruntime.SessionOptions()
    o.intra_op_num_threads = 1
    if "int8" in path:
        o.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    s = onnxruntime.InferenceSession(path, o, providers=["CPUExecutionProvider"])
    return lambda pixels: s.run(None, {"image": normalised(pixels)})[0]


def wilson(k, n, z=1.96):
    """95 % interval of a share."""
    if n == 0:
        return [0.0, 1.0]
    p, d = k / n, 1 + z * z / n
    half = z * ((p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5) / d
    mid = (p + z * z / (2 * n)) / d
    return [round(max(0.0, mid - half), 4), round(min(1.0, mid + half), 4)]


def spread(values, seed=0):
    """95 % interval of a mean, by resampling pictures."""
    rng = np.random.RandomState(seed)
    means = [rng.choice(values, len(values)).mean() for _ in range(2000)]
    return [round(float(q), 4) for q in np.percentile(means, [2.5, 97.5])]


def classify_figures(path, data):
    x, _, y = data
    run = runner(path)
    z = np.concatenate([run(p) for p in x])
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    top, bad = p.argmax(1), y > 0
    table = np.zeros((len(LABELS), len(LABELS)), int)
    np.add.at(table, (y, top), 1)
    print(os.path.basename(path), "rows: truth, columns: answer", *LABELS)
    print(table)
    accepted = p[:, 0] >= SCORE_PASS
    share = lambda what, k, n: dict(what=what, count=f"{k}/{n}", value=round(k / max(1, n), 4), interval=wilson(k, n))
    figures = [share("label right", int((top == y).sum()), len(y))]
    figures += [share(f"{name}: label right", int(table[i, i]), int(table[i].sum())) for i, name in enumerate(LABELS)]
    figures.append(share(f"escapes: defective parts with good >= {SCORE_PASS}", int((accepted & bad).sum()), int(bad.sum())))
    figures.append(share(f"false rejects: good parts with good < {SCORE_PASS}", int((~accepted & ~bad).sum()), int((~bad).sum())))
    return figures


def segment_figures(path, data, threshold=0.5):
    x, m, y = data
    run = runner(path)
    # The crop shows the part and a margin: 36 mm on average.
    px_min = AREA_MIN_MM2 / (36.0 / SIZE) ** 2
    dice, marked = [[] for _ in LABELS], np.zeros(len(y), bool)
    both, any_ = 0, 0
    for k, (pixels, truth, label) in enumerate(zip(x, m, y)):
        p = run(pixels)[0] > threshold
        marked[k] = p.any(0).sum() > px_min
        t = truth[None] == np.arange(1, len(LABELS))[:, None, None]
        both, any_ = both + (p & t).sum(), any_ + (p | t).sum()
        if label:
            dice[label].append(2 * (p[label - 1] & t[label - 1]).sum() / max(1, p[label - 1].sum() + t[label - 1].sum()))
    everything = np.concatenate([np.array(d) for d in dice[1:]])
    mean = lambda what, d: dict(what=what, value=round(float(np.mean(d)), 4), interval=spread(np.array(d)), pictures=len(d))
    figures = [mean("mean Dice of the defective pictures", everything)]
    figures += [mean(f"{name}: mean Dice", np.array(d)) for name, d in zip(MASK_LABELS, dice[1:])]
    figures.append(dict(what="IoU of all pixels of all classes", value=round(float(both / any_), 4)))
    bad = y > 0
    k, n = int((~marked & bad).sum()), int(bad.sum())
    figures.append(dict(what=f"escapes: defective parts with at most {AREA_MIN_MM2} mm2 marked", count=f"{k}/{n}", value=round(k / n, 4), interval=wilson(k, n)))
    k, n = int((marked & ~bad).sum()), int((~bad).sum())
    figures.append(dict(what=f"false rejects: good parts with more than {AREA_MIN_MM2} mm2 marked", count=f"{k}/{n}", value=round(k / n, 4), interval=wilson(k, n)))
    return figures


def value(v):
    if isinstance(v, str):
        return '"' + v.replace('"', '\\"') + '"'
    if isinstance(v, list):
        return "[" + ", ".join(map(value, v)) + "]"
    return f"{v}"


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def entry(name, task, path, output, labels, count, figures, on, extra):
    lines = ["[[model]]", f'name = "{name}"', f'task = "{task}"',
             f'int8 = {{ file = "{os.path.basename(path)}", sha256 = "{sha256(path)}", bytes = {os.path.getsize(path)} }}',
             f'input = {{ name = "image", shape = [1, 3, {SIZE}, {SIZE}], layout = "NCHW", dtype = "f32", channels = "RGB" }}',
             f"mean = {[MEAN] * 3}", f"scale = {[SCALE] * 3}      # x = (v - mean) / scale, v in 0..255; outside the graph",
             'filter = "bilinear"                 # widened by the shrink factor', f"output = {output}", f"labels = {value(labels)}", *extra, f"macs = {count}"]
    for f in figures:
        lines += ["[[model.metric]]", f'on = "{on}"', *[f"{k} = {value(v)}" for k, v in f.items()]]
    return "\n".join(lines) + "\n"


HEAD = """# The models shipped with elek; models/README.md says what they are, models/train made them and wrote this file.
# int8: QDQ, opset 17, activations u8 asymmetric per tensor, weights s8 symmetric per output channel, bias s32.
# Figures: ONNX Runtime with its optimiser off (as tract runs QDQ), 95 % intervals (Wilson; Dice by resampling pictures).

format = 1

"""

if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("sets")
    a.add_argument("weights")
    a.add_argument("out")
    a.add_argument("--limit", type=int, default=10**9, help="measure on the first N test pictures only")
    a = a.parse_args()
    train, test = load(os.path.join(a.sets, "train"), jitter=True), load(os.path.join(a.sets, "test"))
    torch.set_num_threads(1)
    test = [part[: a.limit] for part in test]
    unet, tail = UNet(), Tail()
    unet.load_state_dict(torch.load(os.path.join(a.weights, "unet.pt")))
    tail.load_state_dict(torch.load(os.path.join(a.weights, "tail.pt")))
    unet.eval(), tail.eval()
    classifier = Classifier(unet.encoder, tail)
    counts = macs(classifier, SIZE), macs(unet, SIZE)
    assert counts[0] <= CLASSIFY_MACS_MAX and counts[1] <= SEGMENT_MACS_MAX, counts
    on = f"{len(test[0])} rendered pictures, seed apart from those learnt from"
    text, pictures = HEAD, train[0][:CALIBRATION]
    for name, net, output in (("cap-classify", classifier, "logits"), ("cap-segment", Sigmoid(unet), "mask")):
        f32, int8 = os.path.join(a.weights, f"{name}.onnx"), os.path.join(a.out, f"{name}.int8.onnx")
        export(net, output, f32)
        quantize(f32, int8, pictures)
        print(name, os.path.getsize(int8), "bytes", flush=True)
        if name == "cap-classify":
            before, after = classify_figures(f32, test), classify_figures(int8, test)
            shape, labels, extra = f'{{ name = "logits", shape = [1, {len(LABELS)}], activation = "none" }}  # softmax is left to the caller', LABELS, []
        else:
            before, after = segment_figures(f32, test), segment_figures(int8, test)
            shape = f'{{ name = "mask", shape = [1, {len(MASK_LABELS)}, {SIZE}, {SIZE}], activation = "sigmoid" }}  # in the graph; one plane a label'
            labels, extra = MASK_LABELS, ["threshold = 0.5"]
        for f, g in zip(before, after):
            g["f32"] = f["value"]
            print("  ", g)
        task = "classify" if name == "cap-classify" else "segment"
        text += entry(name, task, int8, shape, labels, counts[task == "segment"], after, on, extra) + "\n"
    total = sum(os.path.getsize(os.path.join(a.out, f"{n}.int8.onnx")) for n in ("cap-classify", "cap-segment"))
    assert total < 15_000_000, total
    with open(os.path.join(a.out, "manifest.toml"), "w") as f:
        f.write(text.rstrip() + "\n")
