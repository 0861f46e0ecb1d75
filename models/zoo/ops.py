"""Graphs of one operator between quantizers, as tools write them, and what ONNX Runtime makes of them.

    python models/zoo/ops.py tests/golden/ops.bin

needs onnx and onnxruntime on a processor whose integer products do not saturate (AVX512-VNNI, or ARM). The file is read
by tests/int8_ops.rs. For each case: name, ONNX file, input shape; the input is reckoned, not stored (see `picture`); the
output as bytes with scale and zero point, or as f32. Numbers are little-endian; texts and blocks have a u32 length.
"""

import struct
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(2024)


def picture(shape):
    """The same numbers as `picture` of tests/int8_ops.rs: about -4 to 4."""
    i = np.arange(int(np.prod(shape)), dtype=np.uint32)
    i = (i * np.uint32(2654435761)) >> np.uint32(7)
    return ((i % 2039).astype(np.float32) / np.float32(255) - np.float32(4)).reshape(shape)


class Graph:
    """A graph under construction; values are names."""

    def __init__(self, shape, opset=17):
        self.nodes, self.constants, self.count, self.opset = [], [], 0, opset
        self.shape = list(shape)
        self.told = {}  # shapes that the file states
        self.shown = None  # that of the output

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def constant(self, value):
        name = self.name()
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, op, *inputs, outputs=1, domain="", **attributes):
        inputs = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def steps(self, scale, zero, signed=False):
        kind = np.int8 if signed else np.uint8
        return self.constant(np.float32(scale)), self.constant(kind(zero - 128 if signed else zero))

    def q(self, value, scale, zero, signed=False):
        return self.op("QuantizeLinear", value, *self.steps(scale, zero, signed))

    def dq(self, value, scale, zero, signed=False):
        return self.op("DequantizeLinear", value, *self.steps(scale, zero, signed))

    def qdq(self, value, scale, zero, signed=False):
        return self.dq(self.q(value, scale, zero, signed), scale, zero, signed)

    def weights(self, shape, per_channel=True, axis=0, unsigned=False, fan=None):
        """Dequantized integers."""
        fan = fan or int(np.prod(shape[1:]))
        n = shape[axis] if per_channel else 1
        scale = (RNG.uniform(0.5, 1.5, n) / 60 / np.sqrt(fan)).astype(np.float32)
        if unsigned:
            ints = RNG.integers(0, 256, shape).astype(np.uint8)
            zero = np.full(n, 121, np.uint8)
        else:
            ints = RNG.integers(-127, 128, shape).astype(np.int8)
            zero = np.zeros(n, np.int8)
        if not per_channel:
            return self.op("DequantizeLinear", ints, scale[0], zero[0])
        return self.op("DequantizeLinear", ints, scale, zero, axis=axis)

    def model(self, output):
        graph = helper.make_graph(
            self.nodes,
            "one",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, self.shown)],
            self.constants,
            value_info=[helper.make_tensor_value_info(v, TensorProto.FLOAT, s) for v, s in self.told.items()],
        )
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10 if self.opset > 19 else 8)


CASES = []


def case(name, graph, output, steps=None):
    """`steps` are scale and zero point of the output; None where it is f32."""
    CASES.append((name, graph, output, steps))


IN = (0.031, 128)  # of the input, which goes from -4 to 4
OUT = (0.03, 120)


def between(name, shape, build, signed=False, out=OUT, opset=17, act=None):
    """input -> Q -> DQ -> build -> Q -> DQ."""
    g = Graph(shape, opset)
    x = g.qdq("image", *IN, signed)
    y = build(g, x)
    case(name, g, g.qdq(y, *out, signed), out)


def conv(shape, w, bias=True, **kw):
    extra = {k: kw.pop(k) for k in ("per_channel", "unsigned") if k in kw}

    def build(g, x):
        inputs = [x, g.weights(w, **extra)]
        if bias:
            inputs.append((RNG.normal(0, 0.3, w[0])).astype(np.float32))
        return g.op("Conv", *inputs, **kw)

    return shape, build


def convolutions():
    for c_in, c_out, k, s, d, p, g, hw in [
        (3, 16, 3, 2, 1, 1, 1, (9, 11)), (3, 5, 7, 2, 1, 3, 1, (12, 9)), (8, 8, 1, 1, 1, 0, 1, (5, 7)),
        (17, 33, 1, 1, 1, 0, 1, (4, 5)), (16, 9, 3, 1, 1, 1, 1, (6, 5)), (8, 8, 3, 1, 2, 2, 1, (9, 8)),
        (16, 16, 3, 1, 1, 1, 16, (7, 6)), (24, 24, 5, 2, 1, 2, 24, (9, 10)), (8, 16, 3, 1, 1, 1, 4, (5, 5)),
        (6, 12, 3, 2, 1, 1, 6, (7, 5)), (4, 3, 2, 2, 1, 0, 1, (6, 8)), (1, 1, 3, 1, 1, 1, 1, (3, 3)),
    ]:
        shape, build = conv((1, c_in, *hw), (c_out, c_in // g, k, k), kernel_shape=[k, k], strides=[s, s],
                            dilations=[d, d], pads=[p] * 4, group=g)
        for signed in (False, True):
            between(f"conv {c_in}x{c_out} k{k} s{s} d{d} p{p} g{g} {'s8' if signed else 'u8'}", shape, build, signed)
    shape, build = conv((1, 8, 6, 6), (8, 8, 3, 3), per_channel=False, kernel_shape=[3, 3], pads=[1, 0, 2, 1])
    between("conv per tensor, uneven pads", shape, build)
    shape, build = conv((1, 8, 7, 6), (8, 8, 3, 3), bias=False, kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2])
    between("conv same upper", shape, build)
    shape, build = conv((1, 8, 7, 6), (8, 8, 3, 3), bias=False, kernel_shape=[3, 3], auto_pad="SAME_LOWER", strides=[2, 2])
    between("conv same lower", shape, build)
    shape, build = conv((1, 8, 5, 5), (12, 8, 1, 1), per_channel=False, unsigned=True, kernel_shape=[1, 1])
    between("conv u8 weights", shape, build)
    for k, s, p, more, c in [(2, 2, 0, 0, (6, 5)), (3, 2, 1, 1, (4, 7)), (4, 2, 1, 0, (8, 8)), (3, 1, 1, 0, (5, 4)),
                             (2, 3, 0, 0, (3, 3))]:
        def build(g, x, k=k, s=s, p=p, more=more, c=c):
            w = g.weights((*c, k, k), per_channel=False, fan=c[0] * k * k // (s * s))
            b = RNG.normal(0, 0.3, c[1]).astype(np.float32)
            return g.op("ConvTranspose", x, w, b, kernel_shape=[k, k], strides=[s, s], pads=[p] * 4,
                        output_padding=[more, more])
        between(f"transposed k{k} s{s} p{p}", (1, c[0], 5, 4), build)


def products():
    def gemm(g, x):
        x = g.op("Flatten", x, axis=1)
        return g.op("Gemm", x, g.weights((10, 48)), RNG.normal(0, 0.3, 10).astype(np.float32), transB=1)
    between("flatten, gemm", (1, 48, 1, 1), gemm)
    def flat(g, x):
        x = g.qdq(g.op("Flatten", x, axis=1), *IN)
        return g.op("Gemm", x, g.weights((60, 7), axis=1, fan=60), RNG.normal(0, 0.3, 7).astype(np.float32))
    between("flatten of a picture, gemm", (1, 5, 3, 4), flat)
    between("matmul", (1, 6, 5, 16), lambda g, x: g.op("MatMul", x, g.weights((16, 9), per_channel=False, fan=16)))
    def last(g):
        x = g.qdq("image", *IN)
        x = g.op("Flatten", x, axis=1)
        return g.op("Gemm", x, g.weights((4, 24)), RNG.normal(0, 0.3, 4).astype(np.float32), transB=1)
    g = Graph((1, 24, 1, 1))
    case("gemm to f32", g, last(g), None)


ACTIVATIONS = {
    "relu": lambda g, x: g.op("Relu", x),
    "relu6": lambda g, x: g.op("Clip", x, np.float32(0), np.float32(6)),
    "sigmoid": lambda g, x: g.op("Sigmoid", x),
    "tanh": lambda g, x: g.op("Tanh", x),
    "silu": lambda g, x: g.op("Mul", x, g.op("Sigmoid", x)),
    "hard sigmoid": lambda g, x: g.op("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "hard swish": lambda g, x: g.op("HardSwish", x),
    "hard swish in parts": lambda g, x: g.op("Mul", x, g.op("Div", g.op("Clip", g.op("Add", x, np.float32(3)), np.float32(0), np.float32(6)), np.float32(6))),
    "leaky": lambda g, x: g.op("LeakyRelu", x, alpha=0.1),
    "elu": lambda g, x: g.op("Elu", x),
    "gelu": lambda g, x: g.op("Mul", g.op("Mul", x, np.float32(0.5)), g.op("Add", g.op("Erf", g.op("Div", x, np.float32(2 ** 0.5))), np.float32(1))),
}


def activations():
    for name, f in ACTIVATIONS.items():
        out = (1 / 250, 0) if name in ("sigmoid", "hard sigmoid") else (0.03, 40)
        between(name, (1, 5, 6, 7), f, out=out)
        between(f"{name} s8", (1, 5, 6, 7), f, out=out, signed=True)
        def after(g, x, f=f):
            return f(g, g.op("Conv", x, g.weights((8, 8, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4))
        between(f"conv, {name}", (1, 8, 6, 5), after, out=out)
        def quantized(g, x, f=f):
            y = g.qdq(g.op("Conv", x, g.weights((8, 8, 1, 1)), kernel_shape=[1, 1]), *OUT)
            return f(g, y)
        between(f"conv, quantizer, {name}", (1, 8, 6, 5), quantized, out=out)


def branches(g, x, c):
    """Two tensors of the same shape and other steps."""
    a = g.qdq(g.op("Conv", x, g.weights((c, c, 1, 1)), kernel_shape=[1, 1]), 0.025, 130)
    b = g.qdq(g.op("Conv", x, g.weights((c, c, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4), 0.02, 110)
    return a, b


def pairs():
    between("add", (1, 9, 5, 6), lambda g, x: g.op("Add", *branches(g, x, 9)))
    between("add s8", (1, 9, 5, 6), lambda g, x: g.op("Add", *branches(g, x, 9)), signed=True)
    between("add, relu", (1, 16, 5, 6), lambda g, x: g.op("Relu", g.op("Add", *branches(g, x, 16))))
    between("sub", (1, 4, 5, 6), lambda g, x: g.op("Sub", *branches(g, x, 4)))
    between("mul", (1, 9, 5, 6), lambda g, x: g.op("Mul", *branches(g, x, 9)))
    between("add of itself", (1, 9, 5, 6), lambda g, x: g.op("Add", x, x))
    between("add by channel", (1, 6, 5, 6), lambda g, x: g.op("Add", x, RNG.normal(0, 1, (1, 6, 1, 1)).astype(np.float32)))
    between("mul by number", (1, 6, 5, 6), lambda g, x: g.op("Mul", x, np.float32(0.7)))
    def unquantized(g, x):
        y = g.op("Conv", x, g.weights((8, 8, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4)
        return g.op("Relu", g.op("Add", y, x))
    between("conv, add without a quantizer, relu", (1, 8, 6, 5), unquantized)
    def excite(g, x):
        m = g.qdq(g.op("GlobalAveragePool", x), 0.01, 128)
        m = g.qdq(g.op("Conv", m, g.weights((4, 12, 1, 1)), kernel_shape=[1, 1]), 0.004, 100)
        m = g.qdq(g.op("Sigmoid", g.qdq(g.op("Conv", m, g.weights((12, 4, 1, 1)), kernel_shape=[1, 1]), 0.004, 128)), 1 / 256, 0)
        return g.op("Mul", x, m)
    between("squeeze and excite", (1, 12, 6, 7), excite)
    def attend(g, x):
        m = g.qdq(g.op("Sigmoid", g.qdq(g.op("Conv", x, g.weights((1, 7, 1, 1)), kernel_shape=[1, 1]), *OUT)), 1 / 256, 0)
        return g.op("Mul", x, m)
    between("mul by pixel", (1, 7, 6, 5), attend)


def spatial():
    between("max pool", (1, 6, 9, 10), lambda g, x: g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), out=IN)
    between("max pool, other step", (1, 6, 9, 10), lambda g, x: g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    between("max pool, rounded up", (1, 6, 9, 10), lambda g, x: g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), out=IN)
    between("mean pool", (1, 6, 9, 10), lambda g, x: g.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), out=(0.02, 128))
    between("mean pool with padding", (1, 6, 9, 10), lambda g, x: g.op("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1), out=(0.02, 128))
    between("global mean", (1, 20, 7, 7), lambda g, x: g.op("GlobalAveragePool", x), out=(0.01, 128))
    between("reduce mean", (1, 20, 7, 5), lambda g, x: g.op("ReduceMean", x, axes=[2, 3], keepdims=0), out=(0.01, 128))
    for mode, how in [("nearest", "asymmetric"), ("nearest", "half_pixel"), ("linear", "half_pixel"),
                      ("linear", "align_corners"), ("linear", "asymmetric"), ("linear", "pytorch_half_pixel")]:
        for scale in (2.0, 1.5, 0.5):
            scales = np.array([1, 1, scale, scale], np.float32)
            extra = {"nearest_mode": "floor"} if how == "asymmetric" and mode == "nearest" else {}
            between(f"resize {mode} {how} {scale}", (1, 5, 6, 8), lambda g, x, m=mode, h=how, s=scales, e=extra: g.op(
                "Resize", x, "", s, mode=m, coordinate_transformation_mode=h, **e), out=IN)
    between("resize to a size", (1, 5, 6, 8), lambda g, x: g.op("Resize", x, "", "", np.array([1, 5, 9, 11], np.int64), mode="linear"), out=IN)
    for mode in ("constant", "reflect", "edge"):
        between(f"pad {mode}", (1, 3, 5, 6), lambda g, x, m=mode: g.op("Pad", x, np.array([0, 0, 1, 2, 0, 0, 2, 1], np.int64), mode=m), out=IN)
    between("slice", (1, 8, 7, 9), lambda g, x: g.op("Slice", x, np.array([1, 2, 1], np.int64), np.array([5, 7, 9], np.int64), np.array([1, 2, 3], np.int64), np.array([1, 1, 2], np.int64)), out=IN)
    def concat(g, x):
        a, b = branches(g, x, 8)
        return g.op("Concat", a, b, x, axis=1)
    between("concat", (1, 8, 5, 4), concat)
    def same(g, x):
        a = g.qdq(g.op("Conv", x, g.weights((5, 8, 1, 1)), kernel_shape=[1, 1]), *OUT)
        b = g.qdq(g.op("Conv", x, g.weights((7, 8, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4), *OUT)
        c = g.qdq(g.op("Concat", a, b, axis=1), *OUT)
        d = g.qdq(g.op("Conv", a, g.weights((6, 5, 1, 1)), kernel_shape=[1, 1]), *OUT)
        return g.op("Concat", d, c, axis=1)
    between("concat of concat, in place", (1, 8, 5, 4), same)
    def up(g, x):
        y = g.qdq(g.op("Resize", x, "", np.array([1, 1, 4, 4], np.float32), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"), *IN)
        return g.op("Conv", y, g.weights((5, 8, 1, 1)), kernel_shape=[1, 1])
    between("upsampling, conv 1x1", (1, 8, 3, 4), up)
    def nhwc(g, x):
        y = g.op("Transpose", g.op("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
        return g.op("Conv", y, g.weights((5, 8, 3, 3)), kernel_shape=[3, 3])
    between("transposes that cancel", (1, 8, 6, 5), nhwc)
    between("transpose", (1, 8, 6, 5), lambda g, x: g.op("Transpose", x, perm=[0, 3, 2, 1]), out=IN)
    between("reshape", (1, 8, 6, 5), lambda g, x: g.op("Reshape", x, np.array([1, 4, -1, 10], np.int64)), out=IN)
    def softmax(axis):
        def build(g, x):
            return g.op("Softmax", x, axis=axis)
        return build
    between("softmax of channels", (1, 6, 4, 5), softmax(1), out=(1 / 256, 0))
    for shape, axis in [((1, 10), 1), ((1, 6, 4, 5), 1)]:
        g = Graph(shape)
        x = g.qdq("image", *IN)
        case(f"softmax to f32, {len(shape)} dimensions", g, g.op("Softmax", x, axis=axis), None)
    # The head of a segmentation net: f32 weights, resize, sigmoid.
    g = Graph((1, 8, 5, 6))
    x = g.qdq("image", *IN)
    y = g.op("Conv", x, RNG.normal(0, 0.2, (3, 8, 1, 1)).astype(np.float32), RNG.normal(0, 0.2, 3).astype(np.float32), kernel_shape=[1, 1])
    y = g.op("Resize", y, "", np.array([1, 1, 2, 2], np.float32), mode="linear")
    case("f32 head", g, g.op("Sigmoid", y), None)


def qlinear():
    """Operators that carry their steps themselves."""
    def start(shape, signed=False):
        g = Graph(shape)
        return g, g.q("image", *IN, signed), g.steps(*IN, signed)

    for c_in, c_out, k, s, group, signed in [(3, 16, 3, 2, 1, False), (16, 8, 1, 1, 1, False), (12, 12, 3, 1, 12, False),
                                             (8, 8, 3, 1, 2, True), (17, 5, 1, 1, 1, True)]:
        g, x, steps = start((1, c_in, 7, 6), signed)
        w = RNG.integers(-127, 128, (c_out, c_in // group, k, k)).astype(np.int8)
        scale = (RNG.uniform(0.5, 1.5, c_out) / 60 / np.sqrt(w[0].size)).astype(np.float32)
        bias = RNG.integers(-3000, 3000, c_out).astype(np.int32)
        y = g.op("QLinearConv", x, *steps, w, scale, np.zeros(c_out, np.int8), *g.steps(*OUT, signed), bias,
                 kernel_shape=[k, k], strides=[s, s], pads=[k // 2] * 4, group=group)
        case(f"QLinearConv {c_in}x{c_out} k{k} g{group} {'s8' if signed else 'u8'}", g, g.dq(y, *OUT, signed), OUT)
    g, x, steps = start((1, 4, 6, 16))
    y = g.op("QLinearMatMul", x, *steps, RNG.integers(-127, 128, (16, 9)).astype(np.int8), np.float32(0.004), np.int8(0), *g.steps(*OUT))
    case("QLinearMatMul", g, g.dq(y, *OUT), OUT)
    g, x, steps = start((1, 40))
    y = g.op("QGemm", x, *steps, RNG.integers(-127, 128, (40, 9)).astype(np.int8), np.float32(0.003), np.int8(0),
             RNG.integers(-3000, 3000, 9).astype(np.int32), *g.steps(*OUT), domain="com.microsoft")
    case("QGemm", g, g.dq(y, *OUT), OUT)
    g, x, steps = start((1, 40))
    y = g.op("QGemm", x, *steps, RNG.integers(-127, 128, (9, 40)).astype(np.int8), np.float32(0.003), np.int8(0),
             RNG.integers(-3000, 3000, 9).astype(np.int32), *g.steps(*OUT), domain="com.microsoft", transB=1)
    case("QGemm transposed", g, g.dq(y, *OUT), OUT)
    for op in ("QLinearAdd", "QLinearMul"):
        for signed in (False, True):
            g, x, steps = start((1, 7, 5, 6), signed)
            y = g.op("QLinearSigmoid", x, *steps, *g.steps(1 / 256, 0, signed), domain="com.microsoft")
            z = g.op(op, x, *steps, y, *g.steps(1 / 256, 0, signed), *g.steps(*OUT, signed), domain="com.microsoft")
            case(f"{op} {'s8' if signed else 'u8'}", g, g.dq(z, *OUT, signed), OUT)
    g, x, steps = start((1, 7, 5, 6))
    y = g.op("QLinearLeakyRelu", x, *steps, *g.steps(0.03, 20), domain="com.microsoft", alpha=0.1)
    case("QLinearLeakyRelu", g, g.dq(y, 0.03, 20), (0.03, 20))
    g, x, steps = start((1, 20, 7, 7))
    y = g.op("QLinearGlobalAveragePool", x, *steps, *g.steps(0.01, 128), domain="com.microsoft")
    case("QLinearGlobalAveragePool", g, g.dq(y, 0.01, 128), (0.01, 128))
    g, x, steps = start((1, 6, 9, 8))
    y = g.op("QLinearAveragePool", x, *steps, *g.steps(0.02, 128), domain="com.microsoft", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    case("QLinearAveragePool", g, g.dq(y, 0.02, 128), (0.02, 128))
    g, x, steps = start((1, 5, 4, 6))
    y = g.op("QLinearSigmoid", x, *steps, *g.steps(1 / 256, 0), domain="com.microsoft")
    z = g.op("QLinearConcat", *g.steps(*OUT), x, *steps, y, *g.steps(1 / 256, 0), domain="com.microsoft", axis=1)
    case("QLinearConcat", g, g.dq(z, *OUT), OUT)
    g, x, steps = start((1, 12))
    y = g.op("QLinearSoftmax", x, *steps, *g.steps(1 / 256, 0), domain="com.microsoft", axis=1, opset=13)
    case("QLinearSoftmax", g, g.dq(y, 1 / 256, 0), (1 / 256, 0))
    g, x, _ = start((1, 6, 8, 9))
    y = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    case("MaxPool of bytes", g, g.dq(y, *IN), IN)
    g, x, _ = start((1, 6, 4, 5))
    y = g.op("Resize", x, "", np.array([1, 1, 2, 2], np.float32), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    y = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 3, 1]), np.array([1, -1, 6], np.int64))
    case("Resize, Transpose, Reshape of bytes", g, g.dq(y, *IN), IN)


def as_tools_do():
    """SiLU with its sigmoid quantized by itself, behind a convolution."""
    def silu(g, x):
        y = g.qdq(g.op("Conv", x, g.weights((8, 8, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4), *OUT)
        return g.op("Mul", y, g.qdq(g.op("Sigmoid", y), 1 / 256, 0))
    between("conv, silu, each quantized", (1, 8, 6, 5), silu, out=(0.02, 20))


def mixed():
    """With something in the middle that is not covered: a region before it, one behind it, tract in between."""
    shape = (1, 3, 16, 16)

    def sine(g, x):
        y = g.qdq(g.op("Conv", x, g.weights((8, 3, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4), *OUT)
        z = g.qdq(g.op("Sin", y), 1 / 120, 125)
        z = g.qdq(g.op("Conv", z, g.weights((8, 8, 1, 1)), kernel_shape=[1, 1]), 0.02, 125)
        return g.op("Add", z, y)
    between("mixed: f32 between two convolutions", shape, sine)

    def rows(g, x):
        y = g.qdq(g.op("Conv", x, g.weights((8, 3, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4), *OUT)
        return g.op("Concat", y, g.op("Relu", y), axis=2)
    between("mixed: concatenation of rows", shape, rows)

    g = Graph(shape)
    x = g.q("image", *IN)
    w = RNG.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
    scale = (RNG.uniform(0.5, 1.5, 8) / 60 / np.sqrt(27)).astype(np.float32)
    y = g.op("QLinearConv", x, *g.steps(*IN), w, scale, np.zeros(8, np.int8), *g.steps(*OUT), kernel_shape=[3, 3])
    z = g.op("QLinearConcat", *g.steps(*OUT), y, *g.steps(*OUT), y, *g.steps(*OUT), domain="com.microsoft", axis=2)
    z = g.op("QLinearSigmoid", z, *g.steps(*OUT), *g.steps(1 / 256, 0), domain="com.microsoft")
    case("mixed: QLinearConcat of rows", g, g.dq(z, 1 / 256, 0), (1 / 256, 0))


def unusual():
    """What tools seldom write, and what was wrong once."""
    # Types that only an attribute states, zero points that are left out.
    g = Graph((1, 5, 4, 6), opset=21)
    x = g.op("QuantizeLinear", "image", np.float32(0.031), output_dtype=TensorProto.INT8)
    case("Q without a zero point, signed", g, g.op("DequantizeLinear", x, np.float32(0.031)), (0.031, 128))
    for op in ("QLinearAdd", "QLinearMul"):
        g = Graph((1, 5, 4, 6))
        a = g.q("image", 0.031, 128, True)
        b = g.q(g.op("Tanh", g.dq(a, 0.031, 128, True)), 0.008, 128, True)
        y = g.op(op, a, *g.steps(0.031, 128, True), b, *g.steps(0.008, 128, True), *g.steps(0.05, 128, True), domain="com.microsoft")
        # tests/int8_ops.rs leaves the zero points out, which the standard allows and ONNX Runtime does not.
        case(f"{op} s8 around zero", g, g.dq(y, 0.05, 128, True), (0.05, 128))
    # Bytes that are padded and put together as they are.
    for signed in (False, True):
        for value in (None, 30):
            g = Graph((1, 3, 5, 6))
            x = g.q("image", *IN, signed)
            kind = np.int8 if signed else np.uint8
            more = [] if value is None else [np.array(value, kind)]
            y = g.op("Pad", x, np.array([0, 0, 1, 2, 0, 0, 2, 1], np.int64), *more)
            case(f"Pad of bytes {'s8' if signed else 'u8'} {value}", g, g.dq(y, *IN, signed), IN)
    g = Graph((1, 3, 5, 6))
    a, b = g.q("image", *IN), g.q("image", 0.06, 100)
    case("Concat of bytes", g, g.dq(g.op("Concat", a, b, axis=1), *IN), IN)
    # A bias for each column, in two dimensions, and one for all.
    for name, bias in (("row", (1, 9)), ("number", (1,))):
        def biased(g, x, bias=bias):
            return g.op("Gemm", x, g.weights((16, 9), axis=1, fan=16), RNG.normal(0, 0.5, bias).astype(np.float32))
        between(f"gemm, bias as a {name}", (5, 16), biased)
    # The older softmax, and the one that says which it is.
    for shape, more in (((1, 6, 4, 5), {"opset": 13}), ((1, 6, 4, 5), {"axis": 3, "opset": 11}), ((1, 12), {"opset": 11})):
        g = Graph(shape)
        x = g.q("image", *IN)
        y = g.op("QLinearSoftmax", x, *g.steps(*IN), *g.steps(1 / 256, 0), domain="com.microsoft", **more)
        case(f"QLinearSoftmax {len(shape)} {more}", g, g.dq(y, 1 / 256, 0), (1 / 256, 0))
    # Height, width, channels.
    for op, more, out in (("QLinearGlobalAveragePool", {}, (0.004, 128)),
                          ("QLinearAveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}, (0.02, 128))):
        g = Graph((1, 7, 8, 5))
        x = g.q("image", *IN)
        y = g.op(op, x, *g.steps(*IN), *g.steps(*out), domain="com.microsoft", channels_last=1, **more)
        case(f"{op}, channels last", g, g.dq(y, *out), out)
    # Where one index has no nearest neighbour by the standard's words.
    for scale in (0.5, 0.75, 2.0):
        def shrink(g, x, scale=scale):
            return g.op("Resize", x, np.array([1, 1, scale, scale], np.float32), mode="nearest")
        between(f"resize of opset 10, {scale}", (1, 3, 8, 12), shrink, out=IN, opset=10)
    for mode in ("floor", "ceil", "round_prefer_ceil", "round_prefer_floor"):
        between(f"resize, {mode}", (1, 3, 5, 6), lambda g, x, m=mode: g.op(
            "Resize", x, "", np.array([1, 1, 1.7, 2.5], np.float32), mode="nearest", nearest_mode=m), out=IN)
    # Dimensions as an input; without any, all of them or none.
    between("reduce mean, dimensions as an input", (1, 20, 7, 5),
            lambda g, x: g.op("ReduceMean", x, np.array([-2, -1], np.int64), keepdims=1), out=(0.01, 128), opset=18)
    between("mean pool, dilated by ceil", (1, 4, 9, 10),
            lambda g, x: g.op("AveragePool", x, kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 1, 1], ceil_mode=1), out=(0.02, 128))
    between("max pool, dilated", (1, 4, 9, 10), lambda g, x: g.op("MaxPool", x, kernel_shape=[2, 3], dilations=[3, 2]), out=IN)
    between("global max pool", (1, 20, 2, 1), lambda g, x: g.op("GlobalMaxPool", x), out=IN)
    # The step of a result that is finer than a table can follow.
    def fine(g, x):
        return ACTIVATIONS["silu"](g, g.op("Conv", x, g.weights((8, 8, 1, 1)), kernel_shape=[1, 1]))
    between("conv, silu, fine steps", (1, 8, 6, 5), fine, out=(0.0005, 200))
    # Nothing is quantized between an operator and what only moves its values.
    def convolved(g, x, c=8):
        return g.op("Relu", g.op("Conv", x, g.weights((c, c, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4))
    between("conv, relu, max pool", (1, 8, 6, 8), lambda g, x: g.op("MaxPool", convolved(g, x), kernel_shape=[2, 2], strides=[2, 2]))
    between("conv, conv, concat", (1, 8, 6, 8), lambda g, x: g.op("Concat", convolved(g, x), convolved(g, x), axis=1))
    between("conv, upsampling", (1, 8, 3, 4), lambda g, x: g.op("Resize", convolved(g, x), "", np.array([1, 1, 2, 2], np.float32), mode="nearest"))
    def split(g, x):
        a, b = g.op("Split", convolved(g, x), np.array([3, 5], np.int64), outputs=2, axis=1)
        return g.op("Concat", b, a, axis=1)
    between("conv, split, concat", (1, 8, 6, 4), split)
    between("concat of activations", (1, 4, 6, 5), lambda g, x: g.op("Concat", g.op("Sigmoid", x), g.op("Tanh", x), axis=1), out=(1 / 120, 125))
    # One operator, several quantizers of one step and of two.
    def twice(g, x):
        y = g.op("Relu", g.op("Conv", x, g.weights((8, 8, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4))
        a = g.op("Conv", g.qdq(y, *OUT), g.weights((8, 8, 1, 1)), kernel_shape=[1, 1])
        b = g.op("Conv", g.qdq(y, *OUT), g.weights((8, 8, 1, 1)), kernel_shape=[1, 1])
        return g.op("Add", g.qdq(a, *OUT), g.qdq(b, *OUT))
    between("one conv, two quantizers", (1, 8, 6, 5), twice)
    g = Graph((1, 3, 6, 5))
    a = g.op("Conv", g.qdq("image", *IN), g.weights((4, 3, 1, 1)), kernel_shape=[1, 1])
    b = g.op("Conv", g.qdq("image", *IN), g.weights((4, 3, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4)
    case("one picture, two quantizers", g, g.qdq(g.op("Add", g.qdq(a, *OUT), g.qdq(b, *OUT)), *OUT), OUT)
    # A pointwise convolution that reads an upsampling with another zero point than its maker's.
    g = Graph((1, 8, 3, 4))
    x = g.op("Resize", g.q("image", *IN), "", np.array([1, 1, 2, 2], np.float32), mode="nearest",
             coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    w = RNG.integers(-127, 128, (5, 8, 1, 1)).astype(np.int8)
    y = g.op("QLinearConv", x, *g.steps(0.031, 100), w, np.full(5, 0.003, np.float32), np.zeros(5, np.int8), *g.steps(*OUT), kernel_shape=[1, 1])
    case("upsampling, conv with another zero point", g, g.dq(y, *OUT), OUT)


def left_over():
    """Operators that are left to tract, each with a region before or behind it."""
    shape = (1, 3, 16, 16)

    def start(signed=False):
        g = Graph(shape)
        return g, g.q("image", *IN, signed)

    # A constant of a type that elek does not read.
    def half(g, x):
        y = g.qdq(g.op("Conv", x, g.weights((8, 3, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4), *OUT)
        c = g.op("Cast", RNG.normal(0, 1, (1, 8, 1, 1)).astype(np.float16), to=TensorProto.FLOAT)
        z = g.qdq(g.op("Add", y, c), 0.03, 128)
        return g.op("Conv", z, g.weights((8, 8, 1, 1)), kernel_shape=[1, 1])
    between("mixed: a constant of another type", shape, half)
    # A transposed convolution that was not quantized.
    g, x = start()
    w = RNG.normal(0, 0.1, (8, 4, 2, 2)).astype(np.float32)
    y = g.op("Conv", g.dq(x, *IN), g.weights((8, 3, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4)
    y = g.op("ConvTranspose", g.qdq(y, *OUT), g.weights((8, 4, 2, 2), per_channel=False, fan=8), kernel_shape=[2, 2], strides=[2, 2])
    case("transposed convolution to f32", g, g.op("Sigmoid", y), None)
    # A bias that differs from row to row; constants that are added along two dimensions.
    def rows(g, x):
        y = g.op("Flatten", g.op("Transpose", g.op("Conv", x, g.weights((4, 3, 16, 1)), kernel_shape=[16, 1]), perm=[1, 0, 2, 3]), axis=1)
        return g.op("Gemm", g.qdq(y, *OUT), g.weights((16, 9), axis=1, fan=16), RNG.normal(0, 0.5, (4, 1)).astype(np.float32))
    between("mixed: gemm, bias by row", shape, rows)
    def table(g, x):
        sum = g.op("Add", RNG.normal(0, 0.3, (16, 1)).astype(np.float32), RNG.normal(0, 0.3, (1, 16)).astype(np.float32))
        y = g.qdq(g.op("Conv", x, g.weights((8, 3, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4), *OUT)
        return g.op("Mul", g.op("Sin", y), sum)
    between("mixed: constants added to constants", shape, table, out=(0.01, 128))
    # Too coarse for 256 steps of their own.
    def outlier(g, x):
        y = g.qdq(g.op("Conv", x, g.weights((8, 3, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4), *OUT)
        c = np.full((1, 8, 1, 1), 0.1, np.float32)
        c[0, 3] = -100
        z = g.qdq(g.op("Relu", g.op("Add", y, c)), 0.015, 0)
        return g.op("Conv", z, g.weights((8, 8, 1, 1)), kernel_shape=[1, 1])
    between("mixed: a channel that is switched off", shape, outlier)
    def steep(g, x):
        y = g.qdq(g.op("Conv", x, g.weights((8, 3, 3, 3)), kernel_shape=[3, 3], pads=[1] * 4), *OUT)
        return g.op("Add", g.op("Exp", y), g.qdq(g.op("Conv", x, g.weights((8, 3, 1, 1)), kernel_shape=[1, 1]), *OUT))
    between("mixed: exp without a quantizer", shape, steep, out=(0.01, 100))
    # Operators that carry their steps themselves, which tract cannot load.
    g, x = start()
    w = RNG.integers(-127, 128, (9, 768)).astype(np.int8)
    x = g.op("Reshape", x, np.array([1, 768], np.int64))
    y = g.op("QGemm", x, *g.steps(*IN), w, np.full(9, 0.0006, np.float32), np.zeros(9, np.int8),
             RNG.integers(-9000, 9000, 9).astype(np.int32), *g.steps(*OUT), domain="com.microsoft", transB=1, alpha=0.75)
    case("mixed: QGemm with alpha", g, g.dq(y, *OUT), OUT)
    g, x = start(True)
    zero = g.steps(0.05, 128, True)
    y = g.op("QLinearAdd", x, *g.steps(*IN, True), g.op("Transpose", x, perm=[0, 1, 3, 2]), *g.steps(*IN, True), *zero, domain="com.microsoft")
    y = g.op("QLinearConcat", *zero, y, *zero, y, *zero, domain="com.microsoft", axis=2)
    case("mixed: QLinearConcat of rows, s8 around zero", g, g.dq(y, 0.05, 128, True), (0.05, 128))
    # A shape that only the file knows: of an operator that is not understood.
    def told(g, x):
        y = g.op("Flatten", g.op("Conv", x, g.weights((16, 3, 16, 1)), kernel_shape=[16, 1]), axis=2)
        y = g.op("Gemm", g.qdq(y, *OUT), g.weights((16, 9), axis=1, fan=16), transA=1)
        g.told[y] = [16, 9]
        return g.op("MatMul", g.qdq(y, *OUT), g.weights((9, 5), per_channel=False, fan=9))
    between("mixed: a product of the input transposed", shape, told)


def apart():
    """What other tools keep apart: biases as nodes, weights in another order, padding by the output's size."""
    def dense(op):
        def build(g, x):
            y = g.op("MatMul", x, g.weights((16, 9), axis=1, fan=16))
            bias = RNG.normal(0, 0.5, 9).astype(np.float32)
            return g.op("Relu", g.op("Add", y, bias) if op == "behind" else g.op("Add", bias, y))
        return build
    between("matmul, bias behind it", (5, 16), dense("behind"))
    between("matmul, bias in front", (1, 6, 5, 16), dense("before"))
    def planes(g, x):
        y = g.op("Conv", x, g.weights((7, 8, 3, 3)), kernel_shape=[3, 3])
        return g.op("Relu", g.op("Add", y, RNG.normal(0, 0.5, (7, 1, 1)).astype(np.float32)))
    between("conv, bias behind it", (1, 8, 6, 5), planes)
    g = Graph((1, 24))
    y = g.op("MatMul", g.qdq("image", *IN), g.weights((24, 4), axis=1, fan=24))
    case("matmul, bias, to f32", g, g.op("Add", y, RNG.normal(0, 0.3, 4).astype(np.float32)), None)
    for per_channel in (False, True):
        name = "channel" if per_channel else "tensor"
        between(f"linear, weights by {name} transposed", (1, 4, 5, 16), lambda g, x, p=per_channel: g.op(
            "MatMul", x, g.op("Transpose", g.weights((9, 16), per_channel=p), perm=[1, 0])))
        between(f"conv, weights by {name} turned", (1, 6, 5, 7), lambda g, x, p=per_channel: g.op(
            "Conv", x, g.op("Transpose", g.weights((3, 3, 6, 9), per_channel=p, axis=3, fan=54), perm=[3, 2, 0, 1]), kernel_shape=[3, 3]))
    between("conv, weights reshaped", (1, 12, 5, 7), lambda g, x: g.op(
        "Conv", x, g.op("Reshape", g.weights((5, 12), per_channel=False), np.array([5, 12, 1, 1], np.int64)), kernel_shape=[1, 1]))
    for k, s, more in ((3, 2, {"auto_pad": "SAME_UPPER"}), (3, 2, {"auto_pad": "SAME_LOWER"}), (4, 2, {"auto_pad": "SAME_UPPER"}),
                       (3, 2, {"output_shape": [9, 8]}), (2, 2, {"auto_pad": "VALID"})):
        def up(g, x, k=k, s=s, more=more):
            return g.op("ConvTranspose", x, g.weights((6, 4, k, k), per_channel=False, fan=6 * k * k // (s * s)),
                        kernel_shape=[k, k], strides=[s, s], **more)
        between(f"transposed k{k} {more}", (1, 6, 5, 4), up)


def fronts():
    """What stands before the first quantizer; pictures with the channels last, which elek turns when it opens a file."""
    mean, spread = (RNG.normal(0, 1, 3).astype(np.float32) for _ in range(2))
    spread = np.abs(spread) + np.float32(0.7)

    def scaled(g, x, shape):
        x = g.op("Mul", x, np.float32(1 / 3))
        return g.op("Div", g.op("Sub", x, mean.reshape(shape)), spread.reshape(shape))

    def convolved(g, x):
        return g.qdq(g.op("Conv", x, g.weights((8, 3, 3, 3)), kernel_shape=[3, 3], strides=[2, 2]), *OUT)

    planes, pixels = (1, 3, 16, 16), (1, 16, 16, 3)
    g = Graph(planes)
    case("front: scaled by channel", g, convolved(g, g.qdq(scaled(g, "image", (1, 3, 1, 1)), *IN)), OUT)
    g = Graph(planes)
    x = g.op("Pad", g.op("Mul", "image", np.float32(0.5)), np.array([0, 0, 1, 2, 0, 0, 1, 2], np.int64))
    case("front: scaled and padded", g, convolved(g, g.qdq(x, *IN)), OUT)
    g = Graph(planes)
    x = g.op("Sigmoid", "image")
    case("front: a function", g, convolved(g, g.qdq(x, 1 / 255, 0)), OUT)
    turn = lambda g, x: g.op("Transpose", x, perm=[0, 3, 1, 2])
    g = Graph(pixels)
    case("channels last: turned", g, convolved(g, g.qdq(turn(g, "image"), *IN)), OUT)
    g = Graph(pixels)
    case("channels last: turned as bytes", g, convolved(g, turn(g, g.qdq("image", *IN))), OUT)
    for name, shape in ("by channel", (1, 1, 1, 3)), ("by a list", (3,)):
        g = Graph(pixels)
        case(f"channels last: scaled {name}", g, convolved(g, g.qdq(turn(g, scaled(g, "image", shape)), *IN)), OUT)
    g = Graph(pixels)
    y = convolved(g, g.qdq(turn(g, g.op("Sin", "image")), *IN))
    case("channels last: mixed", g, y, OUT)
    g = Graph(pixels)
    y = g.op("Transpose", convolved(g, g.qdq(turn(g, "image"), *IN)), perm=[0, 2, 3, 1])
    g.shown = [1, 7, 7, 8]
    case("channels last: masks", g, y, OUT)


def main(path):
    convolutions()
    products()
    activations()
    pairs()
    spatial()
    qlinear()
    mixed()
    as_tools_do()
    unusual()
    left_over()
    apart()
    fronts()
    out = bytearray(struct.pack("<I", len(CASES)))
    block = lambda data: struct.pack("<I", len(data)) + data
    for name, graph, output, steps in CASES:
        model = graph.model(output)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        result = session.run(None, {"image": picture(graph.shape)})[0]
        out += block(name.encode()) + block(model.SerializeToString())
        out += block(struct.pack(f"<{len(graph.shape)}I", *graph.shape)) + block(output.encode())
        if steps is None:
            out += struct.pack("<fI", 0.0, 0) + block(result.astype("<f4").tobytes())
        else:
            scale, zero = np.float32(steps[0]), steps[1]
            ints = np.rint(result / scale).astype(np.int64) + zero
            assert ints.min() >= 0 and ints.max() <= 255, name
            assert ints.max() - ints.min() > 20, f"{name}: {ints.min()} to {ints.max()}"
            out += struct.pack("<fI", scale, zero) + block(ints.astype(np.uint8).tobytes())
    open(path, "wb").write(out)
    print(f"{len(CASES)} cases, {len(out)} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
