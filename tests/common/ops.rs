//! The file tests/golden/ops.bin of models/zoo/ops.py: graphs of a few operators, and what ONNX Runtime makes of them.
#![allow(dead_code)] // each test file uses its part of it

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::Framework;

pub struct Case {
    pub name: String,
    /// The ONNX file.
    pub model: Vec<u8>,
    /// Of the input "image".
    pub shape: Vec<usize>,
    /// Name of the output.
    pub output: String,
    pub expected: Expected,
}

pub enum Expected {
    Bytes { scale: f32, zero: i32, bytes: Vec<u8> },
    Floats(Vec<f32>),
}

impl Case {
    pub fn proto(&self) -> ModelProto {
        let onnx = tract_onnx::onnx();
        onnx.proto_model_for_read(&mut &self.model[..]).unwrap()
    }
}

struct Reader(Vec<u8>, usize);

impl Reader {
    fn take(&mut self, n: usize) -> &[u8] {
        self.1 += n;
        &self.0[self.1 - n..self.1]
    }

    fn number(&mut self) -> usize {
        u32::from_le_bytes(self.take(4).try_into().unwrap()) as usize
    }

    fn block(&mut self) -> Vec<u8> {
        let length = self.number();
        self.take(length).to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.block()).unwrap()
    }
}

pub fn cases() -> Vec<Case> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ops.bin");
    let mut reader = Reader(std::fs::read(path).unwrap(), 0);
    let count = reader.number();
    let mut cases = Vec::new();
    for _ in 0..count {
        let (name, model) = (reader.text(), reader.block());
        let dims = reader.block();
        let shape = dims
            .chunks_exact(4)
            .map(|d| u32::from_le_bytes(d.try_into().unwrap()) as usize);
        let (shape, output) = (shape.collect(), reader.text());
        let scale = f32::from_le_bytes(reader.take(4).try_into().unwrap());
        let (zero, bytes) = (reader.number() as i32, reader.block());
        let expected = if scale == 0.0 {
            let floats = bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            Expected::Floats(floats.collect())
        } else {
            Expected::Bytes { scale, zero, bytes }
        };
        cases.push(Case {
            name,
            model,
            shape,
            output,
            expected,
        });
    }
    assert_eq!(reader.1, reader.0.len());
    cases
}

/// The same numbers as `picture` of models/zoo/ops.py.
pub fn picture(shape: &[usize]) -> Vec<f32> {
    let count = shape.iter().product::<usize>() as u32;
    (0..count)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % 2039)
        .map(|v| v as f32 / 255.0 - 4.0)
        .collect()
}
