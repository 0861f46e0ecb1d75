//! Random quantized graphs, reckoned operator by operator while they are put together.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};

pub struct Graph {
    pub proto: ModelProto,
    pub input_shape: Vec<usize>,
    pub input: Vec<f32>,
    pub output: String,
    /// As ONNX orders it, and its step.
    pub expected: Vec<f64>,
    pub step: f64,
    /// The graph for people.
    pub words: Vec<String>,
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn often(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        self.next() as f64 / u64::MAX as f64
    }
}

/// A value of the graph, [1, C, H, W].
#[derive(Clone)]
struct Value {
    name: String,
    shape: [usize; 4],
    data: Vec<f64>,
}

impl Value {
    fn at(&self, c: usize, y: isize, x: isize) -> Option<f64> {
        let [_, _, h, w] = self.shape;
        let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&x);
        inside.then(|| self.data[(c * h + y as usize) * w + x as usize])
    }

    fn map(&self, name: String, f: impl Fn(f64) -> f64) -> Value {
        let data = self.data.iter().map(|v| f(*v)).collect();
        Value { name, data, ..*self }
    }

    fn of(name: String, [c, h, w]: [usize; 3], mut f: impl FnMut(usize, usize, usize) -> f64) -> Value {
        let mut data = Vec::with_capacity(c * h * w);
        for c in 0..c {
            for y in 0..h {
                for x in 0..w {
                    data.push(f(c, y, x));
                }
            }
        }
        Value {
            name,
            shape: [1, c, h, w],
            data,
        }
    }
}

struct Builder {
    dice: Dice,
    graph: GraphProto,
    words: Vec<String>,
    count: usize,
    signed: bool,
    /// Dequantized values, each with its step and zero point.
    values: Vec<(Value, f32, u8)>,
}

enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
}

fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|v| *v as i64).collect())
}

/// To the even step, and what is left of it.
fn rounded(value: f64, scale: f32, zero: u8) -> f64 {
    let step = (value / f64::from(scale)).round_ties_even() + f64::from(zero);
    (step.clamp(0.0, 255.0) - f64::from(zero)) * f64::from(scale)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Builder {
    fn name(&mut self) -> String {
        self.count += 1;
        format!("v{}", self.count)
    }

    fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<(&str, Attribute)>) -> String {
        let name = self.name();
        let shown: Vec<String> = attributes
            .iter()
            .map(|(key, value)| match value {
                Attribute::Int(v) => format!("{key} {v}"),
                Attribute::Ints(v) => format!("{key} {v:?}"),
                Attribute::Float(v) => format!("{key} {v}"),
                Attribute::Text(v) => format!("{key} {v}"),
            })
            .collect();
        self.words.push(format!(
            "{name} = {op}({}) {}",
            inputs.join(", "),
            shown.join(", ")
        ));
        let attribute = attributes.into_iter().map(|(key, value)| {
            let mut attribute = AttributeProto {
                name: key.to_owned(),
                ..Default::default()
            };
            attribute.r#type = match value {
                Attribute::Int(i) => {
                    attribute.i = i;
                    AttributeType::Int
                }
                Attribute::Ints(ints) => {
                    attribute.ints = ints;
                    AttributeType::Ints
                }
                Attribute::Float(f) => {
                    attribute.f = f;
                    AttributeType::Float
                }
                Attribute::Text(text) => {
                    attribute.s = text.as_bytes().to_vec();
                    AttributeType::String
                }
            } as i32;
            attribute
        });
        self.graph.node.push(NodeProto {
            op_type: op.to_owned(),
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![name.clone()],
            attribute: attribute.collect(),
            ..Default::default()
        });
        name
    }

    fn constant(&mut self, kind: DataType, dims: &[usize], raw_data: Vec<u8>) -> String {
        let name = self.name();
        self.graph.initializer.push(TensorProto {
            name: name.clone(),
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type: kind as i32,
            raw_data,
            ..Default::default()
        });
        name
    }

    fn floats(&mut self, dims: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(DataType::Float, dims, bytes)
    }

    fn longs(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(DataType::Int64, &[values.len()], bytes)
    }

    /// Through a quantizer with these steps.
    fn quantized_as(&mut self, value: &Value, scale: f32, zero: u8) -> Value {
        let steps = self.floats(&[], &[scale]);
        let zero_point = match self.signed {
            true => self.constant(DataType::Int8, &[], vec![zero.wrapping_sub(128)]),
            false => self.constant(DataType::Uint8, &[], vec![zero]),
        };
        let bytes = self.node("QuantizeLinear", &[&value.name, &steps, &zero_point], vec![]);
        let name = self.node("DequantizeLinear", &[&bytes, &steps, &zero_point], vec![]);
        if let Some(words) = self.words.last_mut() {
            *words += &format!(" {:?}, step {scale}, zero {zero}", value.shape);
        }
        let value = value.map(name, |v| rounded(v, scale, zero));
        self.values.push((value.clone(), scale, zero));
        value
    }

    /// Through a quantizer that about covers its values.
    fn quantized(&mut self, value: &Value) -> Value {
        let low = value.data.iter().copied().fold(0.0, f64::min);
        let high = value.data.iter().copied().fold(0.0, f64::max);
        // Now and then it cuts.
        let range = ((high - low) * (0.8 + 0.5 * self.dice.unit())).max(0.05);
        // Finer steps than those of what it is made of would show nothing but how that was rounded.
        let coarsest = self.values.iter().map(|v| v.1).fold(0.0, f32::max);
        let scale = ((range / 255.0) as f32).max(coarsest / 4.0);
        let zero = (-low / (high - low).max(1e-3) * 255.0).round().clamp(0.0, 255.0) as u8;
        self.quantized_as(value, scale, zero)
    }

    /// One of the last values, rather than an early one.
    fn some(&mut self) -> (Value, f32, u8) {
        let back = self.dice.below(3.min(self.values.len()));
        self.values[self.values.len() - 1 - back].clone()
    }

    /// Integers with their scales: dequantized, by output channel; and the name.
    fn weights(&mut self, dims: &[usize], fan: usize, axis: usize) -> (String, Vec<f64>) {
        let count: usize = dims.iter().product();
        let bytes: Vec<i8> = (0..count)
            .map(|_| self.dice.below(255) as i8)
            .map(|w| w.max(-127))
            .collect();
        let channels = if self.dice.often(70) { dims[axis] } else { 1 };
        let scales: Vec<f32> = (0..channels)
            .map(|_| ((0.5 + self.dice.unit()) / 80.0 / (fan as f64).sqrt()) as f32)
            .collect();
        let raw = self.constant(DataType::Int8, dims, bytes.iter().map(|w| *w as u8).collect());
        let shape: &[usize] = if channels == 1 { &[] } else { &[channels] };
        let (steps, zero) = (
            self.floats(shape, &scales),
            self.constant(DataType::Int8, shape, vec![0; channels]),
        );
        let attributes = if channels == 1 {
            vec![]
        } else {
            vec![("axis", Attribute::Int(axis as i64))]
        };
        let name = self.node("DequantizeLinear", &[&raw, &steps, &zero], attributes);
        let inner: usize = dims[axis + 1..].iter().product();
        let channel = |i: usize| if channels == 1 { 0 } else { i / inner % channels };
        let values = bytes.iter().enumerate();
        let values = values.map(|(i, w)| f64::from(*w) * f64::from(scales[channel(i)]));
        (name, values.collect())
    }

    fn bias(&mut self, channels: usize) -> Option<(String, Vec<f32>)> {
        if self.dice.often(25) {
            return None;
        }
        let values: Vec<f32> = (0..channels).map(|_| (self.dice.unit() - 0.5) as f32).collect();
        Some((self.floats(&[channels], &values), values))
    }

    fn convolution(&mut self, x: &Value) -> Value {
        let [_, c, h, w] = x.shape;
        let kernel = [
            self.dice.one_of(&[1, 1, 2, 3, 3, 5]),
            self.dice.one_of(&[1, 1, 3, 3, 5]),
        ];
        let kernel = if self.dice.often(70) {
            [kernel[0]; 2]
        } else {
            kernel
        };
        let stride = [self.dice.one_of(&[1, 1, 2, 3]); 2];
        let dilation = [self.dice.one_of(&[1, 1, 1, 2]); 2];
        let reach = [0, 1].map(|i| (kernel[i] - 1) * dilation[i] + 1);
        let mut pads = [0; 4].map(|_: usize| self.dice.below(3));
        // A window has to see something.
        for i in [0, 1] {
            pads[i] = pads[i].min(reach[i] - 1);
            pads[i + 2] = pads[i + 2].min(reach[i] - 1);
            while [h, w][i] + pads[i] + pads[i + 2] < reach[i] {
                pads[i + 2] += 1;
            }
        }
        let group = match self.dice.below(4) {
            0 => c,
            1 if c % 2 == 0 => 2,
            _ => 1,
        };
        let outputs = match group {
            1 => self.dice.one_of(&[1, 3, 8, 12, 16, 17, 33]),
            2 => 2 * self.dice.one_of(&[1, 3, 8]),
            _ => c * self.dice.one_of(&[1, 1, 2]),
        };
        let (inside, each) = (c / group, outputs / group);
        let dims = [outputs, inside, kernel[0], kernel[1]];
        let (name, weights) = self.weights(&dims, inside * kernel[0] * kernel[1], 0);
        let bias = self.bias(outputs);
        let inputs = [&x.name[..], &name]
            .into_iter()
            .chain(bias.as_ref().map(|b| &b.0[..]));
        let name = self.node(
            "Conv",
            &inputs.collect::<Vec<_>>(),
            vec![
                ("kernel_shape", ints(&kernel)),
                ("strides", ints(&stride)),
                ("dilations", ints(&dilation)),
                ("pads", ints(&pads)),
                ("group", Attribute::Int(group as i64)),
            ],
        );
        let size = [0, 1].map(|i| ([h, w][i] + pads[i] + pads[i + 2] - reach[i]) / stride[i] + 1);
        Value::of(name, [outputs, size[0], size[1]], |o, y, x_| {
            let mut sum = bias.as_ref().map_or(0.0, |b| f64::from(b.1[o]));
            for i in 0..inside {
                for ky in 0..kernel[0] {
                    for kx in 0..kernel[1] {
                        let sy = (y * stride[0] + ky * dilation[0]) as isize - pads[0] as isize;
                        let sx = (x_ * stride[1] + kx * dilation[1]) as isize - pads[1] as isize;
                        let weight = weights[((o * inside + i) * kernel[0] + ky) * kernel[1] + kx];
                        sum += x.at(o / each * inside + i, sy, sx).unwrap_or(0.0) * weight;
                    }
                }
            }
            sum
        })
    }

    fn transposed(&mut self, x: &Value) -> Value {
        let [_, c, h, w] = x.shape;
        let (kernel, stride) = self.dice.one_of(&[(2, 2), (3, 2), (4, 2), (3, 1), (2, 3)]);
        let pad = if h > 1 && w > 1 { self.dice.below(2) } else { 0 };
        let outputs = self.dice.one_of(&[1, 5, 8, 17]);
        let (name, weights) = self.weights(&[c, outputs, kernel, kernel], c * 2, 1);
        let bias = self.bias(outputs);
        let inputs = [&x.name[..], &name]
            .into_iter()
            .chain(bias.as_ref().map(|b| &b.0[..]));
        let name = self.node(
            "ConvTranspose",
            &inputs.collect::<Vec<_>>(),
            vec![
                ("kernel_shape", ints(&[kernel; 2])),
                ("strides", ints(&[stride; 2])),
                ("pads", ints(&[pad; 4])),
            ],
        );
        let size = [h, w].map(|l| (l - 1) * stride + kernel - 2 * pad);
        let mut sums = vec![0.0; outputs * size[0] * size[1]];
        for (i, value) in x.data.iter().enumerate() {
            let (c, y, x) = (i / w / h, i / w % h, i % w);
            for o in 0..outputs {
                for k in 0..kernel * kernel {
                    let (oy, ox) = (y * stride + k / kernel, x * stride + k % kernel);
                    let inside = (pad..size[0] + pad).contains(&oy) && (pad..size[1] + pad).contains(&ox);
                    if inside {
                        let at = (o * size[0] + oy - pad) * size[1] + ox - pad;
                        sums[at] += value * weights[(c * outputs + o) * kernel * kernel + k];
                    }
                }
            }
        }
        Value::of(name, [outputs, size[0], size[1]], |o, y, x| {
            sums[(o * size[0] + y) * size[1] + x] + bias.as_ref().map_or(0.0, |b| f64::from(b.1[o]))
        })
    }

    fn activation(&mut self, x: &Value) -> Value {
        match self.dice.below(7) {
            0 | 1 => {
                let name = self.node("Relu", &[&x.name], vec![]);
                x.map(name, |v| v.max(0.0))
            }
            2 => {
                let (low, high) = (self.floats(&[], &[0.0]), self.floats(&[], &[1.5]));
                let name = self.node("Clip", &[&x.name, &low, &high], vec![]);
                x.map(name, |v| v.clamp(0.0, 1.5))
            }
            3 => {
                let name = self.node("Sigmoid", &[&x.name], vec![]);
                x.map(name, sigmoid)
            }
            4 => {
                let name = self.node("LeakyRelu", &[&x.name], vec![("alpha", Attribute::Float(0.1))]);
                x.map(name, |v| if v < 0.0 { f64::from(0.1f32) * v } else { v })
            }
            5 => {
                let gate = self.node("Sigmoid", &[&x.name], vec![]);
                let name = self.node("Mul", &[&x.name, &gate], vec![]);
                x.map(name, |v| v * sigmoid(v))
            }
            _ => x.clone(),
        }
    }

    /// Two of one size, or one of them a number by channel.
    fn pair(&mut self) -> Option<Value> {
        let (a, ..) = self.some();
        let same = |b: &Value| b.shape == a.shape || (b.shape[1] == a.shape[1] && b.shape[2..] == [1, 1]);
        let others: Vec<Value> = self.values.iter().map(|v| v.0.clone()).filter(same).collect();
        let b = others[self.dice.below(others.len())].clone();
        let op = self.dice.one_of(&["Add", "Add", "Sub", "Mul"]);
        let name = self.node(op, &[&a.name, &b.name], vec![]);
        let plane = a.shape[2] * a.shape[3];
        let data = a.data.iter().enumerate().map(|(i, v)| {
            let w = b.data[if b.shape == a.shape { i } else { i / plane }];
            match op {
                "Add" => v + w,
                "Sub" => v - w,
                _ => v * w,
            }
        });
        let data = data.collect();
        Some(Value { name, data, ..a })
    }

    fn pool(&mut self, x: &Value) -> Option<Value> {
        let [_, c, h, w] = x.shape;
        let (kernel, stride) = self.dice.one_of(&[(2usize, 2), (3, 2), (3, 1), (2, 1)]);
        let pad = self.dice.below(2).min(kernel / 2);
        if h + 2 * pad < kernel || w + 2 * pad < kernel {
            return None;
        }
        let largest = self.dice.often(60);
        let attributes = vec![
            ("kernel_shape", ints(&[kernel; 2])),
            ("strides", ints(&[stride; 2])),
            ("pads", ints(&[pad; 4])),
        ];
        let name = self.node(
            if largest { "MaxPool" } else { "AveragePool" },
            &[&x.name],
            attributes,
        );
        let size = [h, w].map(|l| (l + 2 * pad - kernel) / stride + 1);
        Some(Value::of(name, [c, size[0], size[1]], |c, y, x_| {
            let places = (0..kernel * kernel).filter_map(|k| {
                let sy = (y * stride + k / kernel) as isize - pad as isize;
                x.at(c, sy, (x_ * stride + k % kernel) as isize - pad as isize)
            });
            let seen: Vec<f64> = places.collect();
            match largest {
                true => seen.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                false => seen.iter().sum::<f64>() / seen.len() as f64,
            }
        }))
    }

    fn mean(&mut self, x: &Value) -> Value {
        let name = self.node("GlobalAveragePool", &[&x.name], vec![]);
        let plane = x.shape[2] * x.shape[3];
        Value::of(name, [x.shape[1], 1, 1], |c, _, _| {
            x.data[c * plane..][..plane].iter().sum::<f64>() / plane as f64
        })
    }

    fn up(&mut self, x: &Value) -> Value {
        let [_, c, h, w] = x.shape;
        let factor = self.dice.one_of(&[2usize, 3]);
        let scales = self.floats(&[4], &[1.0, 1.0, factor as f32, factor as f32]);
        let attributes = vec![
            ("mode", Attribute::Text("nearest")),
            ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
            ("nearest_mode", Attribute::Text("floor")),
        ];
        let name = self.node("Resize", &[&x.name, "", &scales], attributes);
        Value::of(name, [c, h * factor, w * factor], |c, y, x_| {
            x.data[(c * h + y / factor) * w + x_ / factor]
        })
    }

    fn padded(&mut self, x: &Value) -> Value {
        let [_, c, h, w] = x.shape;
        let by = [0; 4].map(|_: usize| self.dice.below(3));
        let all: Vec<i64> = [0, 0, by[0], by[1], 0, 0, by[2], by[3]]
            .map(|v| v as i64)
            .to_vec();
        let pads = self.longs(&all);
        let name = self.node("Pad", &[&x.name, &pads], vec![]);
        Value::of(name, [c, h + by[0] + by[2], w + by[1] + by[3]], |c, y, x_| {
            x.at(c, y as isize - by[0] as isize, x_ as isize - by[1] as isize)
                .unwrap_or(0.0)
        })
    }

    fn cut(&mut self, x: &Value) -> Value {
        let [_, c, h, w] = x.shape;
        let first = self.dice.below(c);
        let count = 1 + self.dice.below(c - first);
        let top = self.dice.below(h);
        let (starts, ends) = (
            self.longs(&[first as i64, top as i64]),
            self.longs(&[(first + count) as i64, i64::MAX]),
        );
        let axes = self.longs(&[1, 2]);
        let name = self.node("Slice", &[&x.name, &starts, &ends, &axes], vec![]);
        Value::of(name, [count, h - top, w], |c, y, x_| {
            x.data[((c + first) * h + y + top) * w + x_]
        })
    }

    fn joined(&mut self) -> Value {
        let (a, ..) = self.some();
        let fits: Vec<Value> = self
            .values
            .iter()
            .map(|v| v.0.clone())
            .filter(|b| b.shape[2..] == a.shape[2..])
            .collect();
        let mut parts = vec![a.clone()];
        for _ in 0..1 + self.dice.below(2) {
            parts.push(fits[self.dice.below(fits.len())].clone());
        }
        let names: Vec<&str> = parts.iter().map(|p| &p.name[..]).collect();
        let name = self.node("Concat", &names, vec![("axis", Attribute::Int(1))]);
        let data: Vec<f64> = parts.iter().flat_map(|p| p.data.iter().copied()).collect();
        let channels = parts.iter().map(|p| p.shape[1]).sum();
        let shape = [1, channels, a.shape[2], a.shape[3]];
        Value { name, shape, data }
    }

    /// There and back.
    fn turned(&mut self, x: &Value) -> Value {
        let there = self.node("Transpose", &[&x.name], vec![("perm", ints(&[0, 2, 3, 1]))]);
        let name = self.node("Transpose", &[&there], vec![("perm", ints(&[0, 3, 1, 2]))]);
        x.map(name, |v| v)
    }

    /// One operator with what often stands behind it, then a quantizer.
    fn step(&mut self) {
        let (x, scale, zero) = self.some();
        let small = x.data.len() < 4000;
        let value = match self.dice.below(20) {
            0..8 => {
                let mut y = self.convolution(&x);
                let added = self
                    .values
                    .iter()
                    .map(|v| &v.0)
                    .find(|v| v.shape == y.shape)
                    .cloned();
                if let Some(added) = added.filter(|_| self.dice.often(50)) {
                    let name = self.node("Add", &[&y.name, &added.name], vec![]);
                    let data = y.data.iter().zip(&added.data).map(|(a, b)| a + b).collect();
                    y = Value { name, data, ..y };
                }
                Some(self.activation(&y))
            }
            8 if small => {
                let y = self.transposed(&x);
                Some(self.activation(&y))
            }
            9..12 => self.pair().map(|y| self.activation(&y)),
            12 => self.pool(&x),
            13 => Some(self.mean(&x)),
            14 if small => Some(self.up(&x)),
            15 => Some(self.padded(&x)),
            16 => Some(self.cut(&x)),
            17 if small => Some(self.joined()),
            18 => Some(self.turned(&x)),
            19 => Some(self.activation(&x)),
            _ => None,
        };
        let Some(value) = value else { return };
        // Of what only moves values around, tools keep the steps.
        if self.dice.often(30) {
            let low = value.data.iter().copied().fold(0.0, f64::min);
            let high = value.data.iter().copied().fold(0.0, f64::max);
            let (zero, scale) = (f64::from(zero), scale);
            let covers =
                low >= (-zero - 20.0) * f64::from(scale) && high <= (275.0 - zero) * f64::from(scale);
            if covers && high - low > 60.0 * f64::from(scale) {
                self.quantized_as(&value, scale, zero as u8);
                return;
            }
        }
        self.quantized(&value);
    }
}

pub fn draw(seed: u64) -> Graph {
    let mut dice = Dice(seed.wrapping_mul(0xD134_2543_DE82_EF95));
    let shape = [
        1,
        dice.one_of(&[1, 3, 3, 4, 8, 17]),
        1 + dice.below(9),
        1 + dice.below(9),
    ];
    let input: Vec<f32> = (0..shape.iter().product())
        .map(|_| (dice.unit() * 4.0 - 2.0) as f32)
        .collect();
    let mut builder = Builder {
        signed: dice.often(30),
        dice,
        graph: GraphProto {
            name: format!("seed {seed}"),
            ..Default::default()
        },
        words: Vec::new(),
        count: 0,
        values: Vec::new(),
    };
    let image = Value {
        name: "image".to_owned(),
        shape,
        data: input.iter().map(|v| f64::from(*v)).collect(),
    };
    builder.quantized(&image);
    let steps = 2 + builder.dice.below(9);
    for _ in 0..steps {
        builder.step();
    }
    let (last, step, _) = builder.values.last().cloned().expect("the image is there");
    let named = |name: &str| ValueInfoProto {
        name: name.to_owned(),
        ..Default::default()
    };
    builder.graph.input = vec![named("image")];
    builder.graph.output = vec![named(&last.name)];
    Graph {
        proto: ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: 17,
            }],
            graph: Some(builder.graph),
            ..Default::default()
        },
        input_shape: shape.to_vec(),
        input,
        output: last.name,
        expected: last.data,
        step: step.into(),
        words: builder.words,
    }
}
