//! The files of models/zoo/nets.py: whole networks without their weights, which are drawn here as they are there, and
//! what ONNX Runtime makes of them.
#![allow(dead_code)] // each test file uses its part of it

use std::io::Read;
use std::path::{Path, PathBuf};
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto, tensor_proto::DataType};
use tract_onnx::prelude::Framework;

pub struct Net {
    pub name: String,
    pub proto: ModelProto,
    pub side: usize,
    /// Of the graph as it is written, padding included.
    pub macs: u64,
    /// For each of the drawn pictures, from number 0 on.
    pub references: Vec<Reference>,
}

/// What ONNX Runtime gives operator by operator, and how far its own fused graph is from that.
pub struct Reference {
    pub output: Vec<f32>,
    pub furthest: f32,
    pub mean: f32,
}

/// All networks of a folder, in the order of their names.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "net"))
        .collect();
    files.sort();
    files
}

pub fn read(path: &Path) -> Net {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::ZlibDecoder::new(file)
        .read_to_end(&mut bytes)
        .unwrap();
    let mut left = &bytes[..];
    let graph = block(&mut left);
    let mut proto = tract_onnx::onnx().proto_model_for_read(&mut &graph[..]).unwrap();
    for tensor in &mut proto.graph.as_mut().unwrap().initializer {
        // One dimension is a zero point by channel.
        if tensor.data_type == DataType::Int8 as i32 && tensor.dims.len() > 1 && tensor.raw_data.is_empty() {
            tensor.raw_data = drawn(tensor).iter().map(|w| *w as u8).collect();
        }
    }
    let (side, count) = (number(&mut left), number(&mut left));
    let macs = u64::from_le_bytes(take(&mut left, 8).try_into().unwrap());
    let references = (0..count).map(|_| Reference {
        output: floats(block(&mut left)),
        furthest: floats(take(&mut left, 4))[0],
        mean: floats(take(&mut left, 4))[0],
    });
    let references = references.collect();
    assert!(left.is_empty(), "{}", path.display());
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    Net {
        name,
        proto,
        side,
        macs,
        references,
    }
}

impl Net {
    /// The node that makes a value.
    fn maker(&self, value: &str) -> Option<&NodeProto> {
        let nodes = &self.proto.graph.as_ref().unwrap().node;
        nodes.iter().find(|node| node.output[0] == value)
    }

    /// The step of the last quantizer, which is that of all outputs.
    pub fn output_step(&self) -> f32 {
        let last = self.maker("output").expect("something makes the output");
        assert_eq!(last.op_type, "DequantizeLinear", "{}", self.name);
        let tensors = &self.proto.graph.as_ref().unwrap().initializer;
        let scale = tensors.iter().find(|t| t.name == last.input[1]).unwrap();
        match &scale.float_data[..] {
            [scale] => *scale,
            _ => floats(&scale.raw_data)[0],
        }
    }
}

fn take<'a>(left: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (first, rest) = left.split_at(count);
    *left = rest;
    first
}

fn number(left: &mut &[u8]) -> usize {
    u32::from_le_bytes(take(left, 4).try_into().unwrap()) as usize
}

fn block<'a>(left: &mut &'a [u8]) -> &'a [u8] {
    let count = number(left);
    take(left, count)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let all = bytes.chunks_exact(4);
    all.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// FNV-1a.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |seed, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// splitmix64.
fn noise(seed: u64, i: usize) -> u64 {
    let z = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `drawn` of models/zoo/nets.py.
fn drawn(tensor: &TensorProto) -> Vec<i8> {
    let dims: Vec<usize> = tensor.dims.iter().map(|d| usize::try_from(*d).unwrap()).collect();
    let depth: usize = dims[1..].iter().product();
    let seed = seed_of(tensor.name.trim_end_matches("_quantized"));
    let one = |i: usize| {
        let (channel, at) = (i / depth, i % depth);
        if at == channel * 7 % depth {
            return if channel % 2 == 1 { -127 } else { 127 };
        }
        let z = noise(seed, i).to_le_bytes();
        let sum: i32 = z[..4].iter().map(|b| i32::from(*b)).sum();
        ((sum - 510) >> 2).max(-127) as i8
    };
    (0..dims[0] * depth).map(one).collect()
}

/// `picture` of models/zoo/nets.py, as ONNX orders it.
pub fn picture(number: usize, side: usize) -> Vec<f32> {
    let mut sums = vec![0i32; 3 * side * side];
    let class = number % 10;
    for (square, seed) in [(16, class), (4, class), (1, number)] {
        let seed = seed_of(&format!("picture {seed} of {square}"));
        let across = side.div_ceil(square);
        for (i, sum) in sums.iter_mut().enumerate() {
            let (c, y, x) = (i / side / side, i / side % side, i % side);
            let at = (c * across + y / square) * across + x / square;
            let byte = noise(seed, at).to_le_bytes()[0];
            *sum += i32::from(if square > 1 { byte } else { byte & 127 });
        }
    }
    sums.iter().map(|sum| (sum - 319) as f32 / 128.0).collect()
}
