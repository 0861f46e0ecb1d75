//! Graphs with the channels last, as Keras has them (N, H, W, C): their picture and their masks are turned, so that all
//! that reads a graph here knows planes alone (N, C, H, W).
//!
//! A `Transpose` is put behind the input and before the output. Where the graph runs in integers it costs nothing: bytes
//! lie with their channels last in any case.

use super::graph::Expected;
use tract_onnx::pb;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;

/// The graph with planes; `None` where it has them already.
pub fn with_planes(proto: &pb::ModelProto, expected: &Expected) -> Option<pb::ModelProto> {
    let graph = proto.graph.as_ref()?;
    let size = expected.size as i64;
    let input = graph.input.iter().position(|i| i.name == expected.input)?;
    let output = graph.output.iter().position(|o| o.name == expected.output)?;
    let is = |dim: &Option<i64>, wanted: i64| dim.is_none_or(|d| d == wanted);
    let last = match &dims(&graph.input[input])?[..] {
        // Both may fit: planes are what ONNX calls a picture.
        [_, c, h, w] if is(c, 3) && is(h, size) && is(w, size) => false,
        [n, h, w, c] => is(n, 1) && is(h, size) && is(w, size) && is(c, 3),
        _ => false,
    };
    // Masks are square.
    let mask = match dims(&graph.output[output]).as_deref() {
        Some(&[_, Some(h), Some(w), Some(c)]) => h == w && w != c,
        _ => false,
    };
    // What stands in graphs inside of nodes would still read the old picture.
    let nested = |a: &pb::AttributeProto| a.g.is_some() || !a.graphs.is_empty();
    if (!last && !mask) || graph.node.iter().any(|n| n.attribute.iter().any(nested)) {
        return None;
    }
    let mut proto = proto.clone();
    let graph = proto.graph.as_mut()?;
    // Some tools state the shapes of inputs and outputs twice.
    let others = |v: &pb::ValueInfoProto| v.name != expected.input && v.name != expected.output;
    graph.value_info.retain(others);
    if last {
        let inner = unused(graph, expected.input);
        for name in graph.node.iter_mut().flat_map(|node| &mut node.input) {
            if name == expected.input {
                *name = inner.clone();
            }
        }
        turn(&mut graph.input[input], [0, 3, 1, 2]);
        graph
            .node
            .insert(0, transpose(expected.input, &inner, [0, 2, 3, 1]));
    }
    if mask {
        let inner = unused(graph, expected.output);
        for node in &mut graph.node {
            for name in node.input.iter_mut().chain(&mut node.output) {
                if name == expected.output {
                    *name = inner.clone();
                }
            }
        }
        turn(&mut graph.output[output], [0, 3, 1, 2]);
        graph.node.push(transpose(&inner, expected.output, [0, 3, 1, 2]));
    }
    Some(proto)
}

fn tensor(value: &pb::ValueInfoProto) -> Option<&pb::TensorShapeProto> {
    let pb::type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    tensor.shape.as_ref()
}

/// What is stated of each dimension.
fn dims(value: &pb::ValueInfoProto) -> Option<Vec<Option<i64>>> {
    let dim = |dim: &pb::tensor_shape_proto::Dimension| match dim.value {
        Some(Dim::DimValue(length)) if length > 0 => Some(length),
        _ => None,
    };
    Some(tensor(value)?.dim.iter().map(dim).collect())
}

fn turn(value: &mut pb::ValueInfoProto, order: [usize; 4]) {
    let kind = value.r#type.as_mut().and_then(|t| t.value.as_mut());
    if let Some(pb::type_proto::Value::TensorType(tensor)) = kind
        && let Some(shape) = &mut tensor.shape
        && shape.dim.len() == order.len()
    {
        shape.dim = order.map(|from| shape.dim[from].clone()).to_vec();
    }
}

fn transpose(from: &str, to: &str, order: [i64; 4]) -> pb::NodeProto {
    pb::NodeProto {
        name: format!("{to}.turned"),
        op_type: "Transpose".to_owned(),
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        attribute: vec![pb::AttributeProto {
            name: "perm".to_owned(),
            r#type: pb::attribute_proto::AttributeType::Ints as i32,
            ints: order.to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A name that no value of the graph has.
fn unused(graph: &pb::GraphProto, of: &str) -> String {
    let mut name = format!("{of}.channels_last");
    let taken = |name: &str| {
        let values = graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output));
        let mut all = values.chain(graph.initializer.iter().map(|i| &i.name));
        all.any(|value| value == name)
    };
    while taken(&name) {
        name.push('_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One node from "image" to "output".
    fn model(input: &[i64], output: &[i64]) -> pb::ModelProto {
        let value = |name: &str, dims: &[i64]| {
            let dim = |&length: &i64| pb::tensor_shape_proto::Dimension {
                value: (length > 0).then_some(Dim::DimValue(length)),
                ..Default::default()
            };
            let shape = pb::TensorShapeProto {
                dim: dims.iter().map(dim).collect(),
            };
            let tensor = pb::type_proto::Tensor {
                elem_type: pb::tensor_proto::DataType::Float as i32,
                shape: Some(shape),
            };
            pb::ValueInfoProto {
                name: name.to_owned(),
                r#type: Some(pb::TypeProto {
                    value: Some(pb::type_proto::Value::TensorType(tensor)),
                    ..Default::default()
                }),
                ..Default::default()
            }
        };
        let node = pb::NodeProto {
            op_type: "Sin".to_owned(),
            input: vec!["image".to_owned()],
            output: vec!["output".to_owned()],
            ..Default::default()
        };
        let graph = pb::GraphProto {
            input: vec![value("image", input)],
            output: vec![value("output", output)],
            node: vec![node],
            ..Default::default()
        };
        pb::ModelProto {
            graph: Some(graph),
            ..Default::default()
        }
    }

    fn nodes(proto: &pb::ModelProto, size: usize) -> Option<Vec<String>> {
        let expected = Expected {
            size,
            input: "image",
            output: "output",
        };
        let graph = with_planes(proto, &expected)?.graph?;
        let shown = |v: &pb::ValueInfoProto| format!("{:?}", dims(v).unwrap_or_default());
        let nodes = graph.node.iter();
        let mut words: Vec<String> = nodes
            .map(|n| format!("{} {} {}", n.op_type, n.input[0], n.output[0]))
            .collect();
        words.push(format!("{} {}", shown(&graph.input[0]), shown(&graph.output[0])));
        Some(words)
    }

    #[test]
    fn what_has_the_channels_last_is_turned() {
        let both = nodes(&model(&[0, 8, 8, 3], &[1, 4, 4, 2]), 8).unwrap();
        assert_eq!(
            both,
            [
                "Transpose image image.channels_last",
                "Sin image.channels_last output.channels_last",
                "Transpose output.channels_last output",
                "[None, Some(3), Some(8), Some(8)] [Some(1), Some(2), Some(4), Some(4)]",
            ]
        );
        // Scores have no channels, and masks may already be planes.
        assert_eq!(nodes(&model(&[1, 8, 8, 3], &[1, 10]), 8).unwrap().len(), 3);
        assert_eq!(nodes(&model(&[1, 3, 8, 8], &[1, 4, 4, 2]), 8).unwrap().len(), 3);
        assert_eq!(nodes(&model(&[1, 8, 8, 3], &[1, 2, 4, 4]), 8).unwrap().len(), 3);
    }

    #[test]
    fn planes_stay_and_what_fits_neither_is_left_to_the_check() {
        for (input, size) in [
            ([1, 3, 8, 8], 8),
            ([1, 3, 3, 3], 3),
            ([0, 0, 0, 0], 8),
            ([1, 9, 9, 3], 8),
        ] {
            assert_eq!(nodes(&model(&input, &[1, 2, 4, 4]), size), None, "{input:?}");
        }
        let mut inside = model(&[1, 8, 8, 3], &[1, 10]);
        let node = &mut inside.graph.as_mut().unwrap().node[0];
        node.attribute.push(pb::AttributeProto {
            g: Some(pb::GraphProto::default()),
            ..Default::default()
        });
        assert_eq!(nodes(&inside, 8), None);
    }
}
