//! The ONNX graph as the lowering wants it: names looked up once, attributes by name, constants as numbers.
//!
//! Everything here comes from a file that may be damaged or hostile: sizes are checked before anything is allocated, and
//! what does not fit ends in an error.

use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::rc::Rc;
use tract_onnx::pb;

/// Values of one tensor that the lowering looks at: a quarter of the memory of the smallest box.
pub const VALUES_MAX: usize = 1 << 28;
/// Dimensions of one tensor: networks on pictures have six at most.
pub const RANK_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    F32(Vec<f32>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    I8(Vec<i8>),
    U8(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Data,
}

impl Tensor {
    pub fn ints(values: Vec<i64>) -> Tensor {
        Tensor {
            shape: vec![values.len()],
            data: Data::I64(values),
        }
    }

    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(values) => Some(values),
            _ => None,
        }
    }

    /// Whole numbers of any type.
    pub fn whole(&self) -> Option<Vec<i64>> {
        Some(match &self.data {
            Data::F32(_) => return None,
            Data::I64(v) => v.clone(),
            Data::I32(v) => v.iter().map(|&v| v.into()).collect(),
            Data::I8(v) => v.iter().map(|&v| v.into()).collect(),
            Data::U8(v) => v.iter().map(|&v| v.into()).collect(),
        })
    }

    /// The number of a tensor that has exactly one.
    pub fn single(&self) -> Option<f32> {
        match self.floats()? {
            &[value] => Some(value),
            _ => None,
        }
    }

    pub fn from_proto(proto: &pb::TensorProto) -> Result<Tensor> {
        use pb::tensor_proto::DataType;
        ensure!(
            proto.data_location.unwrap_or(0) == 0 && proto.external_data.is_empty(),
            "the numbers of {:?} are in another file",
            proto.name
        );
        let shape = dims(&proto.dims)?;
        let len: usize = shape.iter().product();
        let raw = &proto.raw_data;
        let is = |kind: DataType| proto.data_type == kind as i32;
        let data = if is(DataType::Float) {
            Data::F32(numbers(raw, &proto.float_data, f32::from_le_bytes, |v| *v)?)
        } else if is(DataType::Int64) {
            Data::I64(numbers(raw, &proto.int64_data, i64::from_le_bytes, |v| *v)?)
        } else if is(DataType::Int32) {
            Data::I32(numbers(raw, &proto.int32_data, i32::from_le_bytes, |v| *v)?)
        } else if is(DataType::Int8) {
            Data::I8(numbers(raw, &proto.int32_data, i8::from_le_bytes, |v| *v as i8)?)
        } else if is(DataType::Uint8) {
            Data::U8(numbers(raw, &proto.int32_data, u8::from_le_bytes, |v| *v as u8)?)
        } else {
            bail!(
                "the numbers of {:?} are of ONNX type {}",
                proto.name,
                proto.data_type
            );
        };
        let found = match &data {
            Data::F32(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::I8(v) => v.len(),
            Data::U8(v) => v.len(),
        };
        ensure!(
            found == len,
            "{:?} has {found} numbers, its shape {shape:?} wants {len}",
            proto.name
        );
        Ok(Tensor { shape, data })
    }
}

/// From raw bytes if there are any, else from the typed field.
fn numbers<T, F, const N: usize>(
    raw: &[u8],
    typed: &[F],
    from_bytes: fn([u8; N]) -> T,
    from: fn(&F) -> T,
) -> Result<Vec<T>> {
    if raw.is_empty() {
        return Ok(typed.iter().map(from).collect());
    }
    ensure!(
        raw.len().is_multiple_of(N),
        "{} bytes are no whole count of numbers of {N} bytes",
        raw.len()
    );
    let chunks = raw.chunks(N).map(|chunk| chunk.try_into().ok().map(from_bytes));
    Ok(chunks.flatten().collect())
}

fn dims(dims: &[i64]) -> Result<Vec<usize>> {
    let shape: Vec<usize> = dims
        .iter()
        .map(|&d| usize::try_from(d).context("a tensor has a negative dimension"))
        .collect::<Result<_>>()?;
    volume(&shape)?;
    Ok(shape)
}

/// Values of a shape, if that is a number to work with. Dimensions beside a zero have to be within it too: they are
/// walked over and multiplied like others.
pub fn volume(shape: &[usize]) -> Result<usize> {
    ensure!(
        shape.len() <= RANK_MAX,
        "a tensor of {} dimensions, {RANK_MAX} are the most",
        shape.len()
    );
    let room = shape.iter().try_fold(1usize, |product, &d| {
        product.checked_mul(d.max(1)).filter(|&p| p <= VALUES_MAX)
    });
    let room = room.with_context(|| format!("a tensor of shape {shape:?} is too large"))?;
    Ok(if shape.contains(&0) { 0 } else { room })
}

/// One operator, its inputs and outputs as numbers of values.
#[derive(Clone, Debug)]
pub struct Node {
    /// Position in the file.
    pub index: usize,
    pub op: String,
    pub domain: String,
    pub inputs: Vec<Option<usize>>,
    pub outputs: Vec<Option<usize>>,
    attributes: HashMap<String, pb::AttributeProto>,
}

impl Node {
    pub fn input(&self, at: usize) -> Option<usize> {
        self.inputs.get(at).copied().flatten()
    }

    pub fn output(&self) -> Option<usize> {
        self.outputs.first().copied().flatten()
    }

    pub fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attributes.get(name).map_or(default, |a| a.i)
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attributes.get(name).map_or(default, |a| a.f)
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attributes.get(name).map(|a| &a.ints[..])
    }

    pub fn text(&self, name: &str, default: &'static str) -> String {
        let bytes = self.attributes.get(name).map(|a| &a.s[..]);
        bytes.map_or(default.to_owned(), |b| String::from_utf8_lossy(b).into_owned())
    }

    pub fn tensor(&self, name: &str) -> Option<&pb::TensorProto> {
        self.attributes.get(name)?.t.as_ref()
    }

    /// Operators of the standard and of ONNX Runtime's own domain are told apart by name alone.
    pub fn is_known_domain(&self) -> bool {
        matches!(self.domain.as_str(), "" | "ai.onnx" | "com.microsoft")
    }
}

/// The graph, nodes in an order in which each comes after what it needs.
#[derive(Debug)]
pub struct Graph {
    pub opset: i64,
    pub nodes: Vec<Node>,
    /// Of each value.
    pub names: Vec<String>,
    pub constants: HashMap<usize, Rc<Tensor>>,
    /// Constants of other types (f16, 16 bits, strings), with their shape: what reads them is left to tract.
    pub unread: HashMap<usize, Option<Vec<usize>>>,
    pub input: usize,
    pub output: usize,
    /// The shapes that the file itself states, where they are fixed.
    pub stated: HashMap<usize, Vec<usize>>,
}

/// Ten times as many as the deepest networks have, while what is done for each node still takes no time.
const NODES_MAX: usize = 100_000;

impl Graph {
    /// `input` and `output` are names; other outputs of the file are left out.
    pub fn new(proto: &pb::ModelProto, input: &str, output: &str) -> Result<Graph> {
        let graph = proto.graph.as_ref().context("there is no graph")?;
        ensure!(
            graph.node.len() <= NODES_MAX,
            "it has {} nodes, {NODES_MAX} are the most",
            graph.node.len()
        );
        let mut names = Names::default();
        let (mut constants, mut unread) = (HashMap::new(), HashMap::new());
        for tensor in &graph.initializer {
            let value = names.number(&tensor.name);
            let twice = constants.contains_key(&value) || unread.contains_key(&value);
            ensure!(!twice, "{:?} is made more than once", tensor.name);
            match Tensor::from_proto(tensor) {
                Ok(read) => {
                    constants.insert(value, Rc::new(read));
                }
                Err(_) => {
                    unread.insert(value, dims(&tensor.dims).ok());
                }
            }
        }
        let input = names.number(input);
        let mut nodes: Vec<Node> = Vec::with_capacity(graph.node.len());
        for (index, node) in graph.node.iter().enumerate() {
            let mut numbers = |list: &[String]| -> Vec<Option<usize>> {
                let number = |name: &String| (!name.is_empty()).then(|| names.number(name));
                list.iter().map(number).collect()
            };
            nodes.push(Node {
                index,
                op: node.op_type.clone(),
                domain: node.domain.clone(),
                inputs: numbers(&node.input),
                outputs: numbers(&node.output),
                attributes: node
                    .attribute
                    .iter()
                    .map(|a| (a.name.clone(), a.clone()))
                    .collect(),
            });
        }
        let output = names.number(output);
        let stated = stated(graph, &mut names);
        let imports = proto.opset_import.iter();
        let opset = imports
            .filter(|i| i.domain.is_empty() || i.domain == "ai.onnx")
            .map(|i| i.version);
        let mut this = Graph {
            opset: opset.max().unwrap_or(0),
            nodes,
            names: names.list,
            constants,
            unread,
            input,
            output,
            stated,
        };
        this.sort()?;
        Ok(this)
    }

    /// Orders the nodes; a value made twice or a circle is an error.
    fn sort(&mut self) -> Result<()> {
        let mut maker: Vec<Option<usize>> = vec![None; self.names.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for &value in node.outputs.iter().flatten() {
                let twice = maker[value].replace(i).is_some()
                    || self.constants.contains_key(&value)
                    || self.unread.contains_key(&value)
                    || value == self.input;
                ensure!(!twice, "{:?} is made more than once", self.names[value]);
            }
        }
        let mut waits: Vec<usize> = vec![0; self.nodes.len()];
        let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for &value in node.inputs.iter().flatten() {
                if let Some(made) = maker[value] {
                    waits[i] += 1;
                    waiting[made].push(i);
                }
            }
        }
        // A heap, so that nodes keep the order of the file where they can.
        let ready = (0..self.nodes.len()).filter(|&i| waits[i] == 0);
        let mut ready: std::collections::BinaryHeap<_> = ready.map(std::cmp::Reverse).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(std::cmp::Reverse(i)) = ready.pop() {
            order.push(i);
            for &next in &waiting[i] {
                waits[next] -= 1;
                if waits[next] == 0 {
                    ready.push(std::cmp::Reverse(next));
                }
            }
        }
        ensure!(order.len() == self.nodes.len(), "the graph runs in a circle");
        let mut nodes: Vec<Option<Node>> = self.nodes.drain(..).map(Some).collect();
        self.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
        Ok(())
    }
}

#[derive(Default)]
struct Names {
    list: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Names {
    fn number(&mut self, name: &str) -> usize {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        self.list.push(name.to_owned());
        self.numbers.insert(name.to_owned(), self.list.len() - 1);
        self.list.len() - 1
    }
}

fn stated(graph: &pb::GraphProto, names: &mut Names) -> HashMap<usize, Vec<usize>> {
    let mut stated = HashMap::new();
    for info in graph.value_info.iter().chain(&graph.output) {
        let value = info.r#type.as_ref().and_then(|t| t.value.as_ref());
        let Some(pb::type_proto::Value::TensorType(tensor)) = value else {
            continue;
        };
        let Some(shape) = &tensor.shape else { continue };
        let dims: Option<Vec<usize>> = shape
            .dim
            .iter()
            .map(|d| match d.value {
                Some(pb::tensor_shape_proto::dimension::Value::DimValue(n)) => usize::try_from(n).ok(),
                _ => None,
            })
            .collect();
        if let Some(dims) = dims.filter(|d| volume(d).is_ok()) {
            stated.insert(names.number(&info.name), dims);
        }
    }
    stated
}
