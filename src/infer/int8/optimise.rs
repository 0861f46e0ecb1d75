//! Makes a program smaller without changing a bit of what it gives.

use super::ir::{Added, Id, Op, OpKind, Program};
use crate::kernels::binary::BinaryOp;
use crate::kernels::finish::Middle;
use std::collections::HashMap;
use std::sync::Arc;

/// `outputs` stay.
pub fn run(program: &mut Program, outputs: &[Id]) {
    functions_of_one_value(program, outputs);
    products_before_upsampling(program, outputs);
    tables_into_their_makers(program, outputs);
    sums_into_convolutions(program, outputs);
    remove_unused(program, outputs);
}

/// Who makes and who reads each value, by the value that owns the bytes.
struct Uses {
    maker: HashMap<Id, usize>,
    readers: HashMap<Id, Vec<usize>>,
    kept: Vec<Id>,
}

impl Uses {
    fn new(program: &Program, outputs: &[Id]) -> Uses {
        let mut uses = Uses {
            maker: HashMap::new(),
            readers: HashMap::new(),
            kept: outputs.iter().map(|&id| program.root(id)).collect(),
        };
        for (i, op) in program.ops.iter().enumerate() {
            uses.maker.insert(program.root(op.output), i);
            for input in op.inputs() {
                uses.readers.entry(program.root(input)).or_default().push(i);
            }
        }
        uses
    }

    /// The operator that makes a value for one reader alone.
    fn private_maker(&self, program: &Program, id: Id) -> Option<usize> {
        let root = program.root(id);
        let one = self.readers.get(&root).is_some_and(|r| r.len() == 1) && !self.kept.contains(&root);
        self.maker.get(&root).copied().filter(|_| one)
    }
}

/// A sum or product of a value with a table of itself is a table: SiLU, whose sigmoid tools quantize by itself.
fn functions_of_one_value(program: &mut Program, outputs: &[Id]) {
    let uses = Uses::new(program, outputs);
    for i in 0..program.ops.len() {
        let OpKind::Binary {
            op,
            a,
            b,
            scales,
            step,
            finish,
        } = &program.ops[i].kind
        else {
            continue;
        };
        let (from, table_a) = before_table(program, &uses, *a);
        let (from_b, table_b) = before_table(program, &uses, *b);
        let dims = program.values[program.ops[i].output].dims();
        let same = [from, from_b, *a, *b]
            .iter()
            .all(|&id| program.values[id].dims() == dims);
        if program.root(from) != program.root(from_b) || !same {
            continue;
        }
        let value = |id: Id, table: &Option<Arc<[u8]>>, scale: f32, byte: usize| {
            let step = table.as_ref().map_or(byte as u8, |t| t[byte]);
            let zero = program.values[id].quant().map_or(0, |q| q.zero);
            (i32::from(step) - i32::from(zero)) as f32 * scale
        };
        let byte = |byte: usize| {
            let (a, b) = (
                value(*a, &table_a, scales[0], byte),
                value(*b, &table_b, scales[1], byte),
            );
            finish.byte(op.of(a, b) / step)
        };
        let table: Arc<[u8]> = (0..256).map(byte).collect();
        program.ops[i].kind = OpKind::Gather {
            input: from,
            rows: (0..dims[0] as u32).collect(),
            columns: (0..dims[1] as u32).collect(),
            channel: 0,
            fill: 0,
            table: Some(table),
        };
    }
    remove_unused(program, outputs);
}

/// The value behind a table that does nothing else, and the table.
fn before_table(program: &Program, uses: &Uses, id: Id) -> (Id, Option<Arc<[u8]>>) {
    let maker = uses.maker.get(&program.root(id));
    match maker.and_then(|&maker| plain_table(program, maker)) {
        Some((input, table)) => (input, Some(table)),
        None => (id, None),
    }
}

/// A convolution of 1 × 1 sees one pixel, so it gives the same before its input is repeated as after it, for a
/// fraction of the work.
fn products_before_upsampling(program: &mut Program, outputs: &[Id]) {
    let uses = Uses::new(program, outputs);
    for i in 0..program.ops.len() {
        let OpKind::Conv(conv) = &program.ops[i].kind else {
            continue;
        };
        let [part] = &conv.parts[..] else { continue };
        let pointwise = part.window.kernel == [1, 1]
            && part.window.stride == [1, 1]
            && part.window.pad == [0, 0]
            && conv.residual.is_none()
            && conv.function.is_none();
        let Some(maker) = uses.private_maker(program, conv.input).filter(|_| pointwise) else {
            continue;
        };
        let OpKind::Gather {
            input,
            rows,
            columns,
            channel: 0,
            table: None,
            ..
        } = &program.ops[maker].kind
        else {
            continue;
        };
        let from = program.values[*input].clone();
        let repeated = program.values[program.ops[maker].output].dims();
        let ([h, w, c], inside) = (from.dims(), |map: &[u32], length| {
            map.iter().all(|&m| (m as usize) < length)
        });
        let aliased = program.values[conv.input].dims() != repeated;
        if aliased || !inside(rows, h) || !inside(columns, w) || c != repeated[2] {
            continue;
        }
        if rows.len() * columns.len() <= h * w || maker >= i {
            continue;
        }
        // A reader may give the bytes another step than their maker did.
        if program.values[conv.input].quant() != from.quant() {
            continue;
        }
        swap(program, maker, i, [h, w]);
    }
}

/// Puts convolution `later` before the resize `earlier` that feeds it.
fn swap(program: &mut Program, earlier: usize, later: usize, size: [usize; 2]) {
    let output = program.ops[later].output;
    let mut small = program.values[output].clone();
    if let [_, _, h, w] = &mut small.shape[..] {
        (*h, *w) = (size[0], size[1]);
    }
    program.values.push(small);
    let between = program.values.len() - 1;
    let nodes = (program.ops[earlier].node, program.ops[later].node);
    let mut gather = std::mem::replace(
        &mut program.ops[earlier].kind,
        OpKind::Constant { bytes: Vec::new() },
    );
    let mut conv = std::mem::replace(
        &mut program.ops[later].kind,
        OpKind::Constant { bytes: Vec::new() },
    );
    if let (OpKind::Gather { input, .. }, OpKind::Conv(conv)) = (&mut gather, &mut conv) {
        conv.input = std::mem::replace(input, between);
        conv.parts[0].size = size;
    }
    // The convolution takes the resize's place; its value has no maker any more and no reader either.
    program.ops[earlier] = Op {
        kind: conv,
        output: between,
        node: nodes.1,
    };
    program.ops[later] = Op {
        kind: gather,
        output,
        node: nodes.0,
    };
}

/// An activation becomes the table at the end of the operator before it.
fn tables_into_their_makers(program: &mut Program, outputs: &[Id]) {
    let mut uses = Uses::new(program, outputs);
    let mut gone = vec![false; program.ops.len()];
    for (i, gone) in gone.iter_mut().enumerate() {
        let Some((input, table)) = plain_table(program, i) else {
            continue;
        };
        let Some(maker) = uses.private_maker(program, input) else {
            continue;
        };
        let output = program.ops[i].output;
        if program.values[program.ops[maker].output].dims() != program.values[output].dims() {
            continue;
        }
        let op = &mut program.ops[maker];
        if matches!(&op.kind, OpKind::Conv(conv) if conv.function.is_some()) {
            continue;
        }
        let Some(own) = op.table_mut() else { continue };
        *own = Some(match own {
            None => table,
            Some(first) => first.iter().map(|&b| table[usize::from(b)]).collect(),
        });
        // It makes the activation's value now, whose readers stay.
        op.output = output;
        uses.maker.insert(program.root(output), maker);
        *gone = true;
    }
    let mut gone = gone.into_iter();
    program.ops.retain(|_| !gone.next().unwrap_or(false));
}

/// Input and table of an operator that does nothing but look up.
fn plain_table(program: &Program, i: usize) -> Option<(Id, Arc<[u8]>)> {
    let OpKind::Gather {
        input,
        rows,
        columns,
        channel: 0,
        table: Some(table),
        ..
    } = &program.ops[i].kind
    else {
        return None;
    };
    let straight = |map: &[u32]| map.iter().enumerate().all(|(i, &m)| i == m as usize);
    let same = program.values[*input].dims() == program.values[program.ops[i].output].dims();
    (same && straight(rows) && straight(columns)).then(|| (*input, table.clone()))
}

/// A residual is added where the convolution's result still is in registers.
fn sums_into_convolutions(program: &mut Program, outputs: &[Id]) {
    let uses = Uses::new(program, outputs);
    for i in 0..program.ops.len() {
        let OpKind::Binary {
            op: BinaryOp::Add,
            a,
            b,
            scales: [sa, sb],
            step,
            finish,
        } = &program.ops[i].kind
        else {
            continue;
        };
        let output = program.values[program.ops[i].output].dims();
        let same = |id: Id| program.values[id].dims() == output;
        if !same(*a) || !same(*b) || program.root(*a) == program.root(*b) {
            continue;
        }
        // The convolution that comes last, so that its input need not live longer.
        let mut sides = [(*a, *sa, *b, *sb), (*b, *sb, *a, *sa)];
        let place = |id: Id| uses.maker.get(&program.root(id)).copied().unwrap_or(0);
        sides.sort_by_key(|side| std::cmp::Reverse(place(side.0)));
        let found = sides.into_iter().find_map(|(own, own_scale, other, scale)| {
            let maker = uses.private_maker(program, own)?;
            let OpKind::Conv(conv) = &program.ops[maker].kind else {
                return None;
            };
            let zero = program.values[own].quant().map(|q| i32::from(q.zero));
            let plain = conv.residual.is_none() && conv.finish.table.is_none() && conv.function.is_none();
            let fits = plain && zero == Some(conv.finish.zero) && same(program.ops[maker].output);
            fits.then_some((maker, own_scale, other, scale))
        });
        let Some((maker, own_scale, value, scale)) = found else {
            continue;
        };
        let (finish, step) = (finish.clone(), *step);
        let mut kind = std::mem::replace(
            &mut program.ops[maker].kind,
            OpKind::Constant { bytes: Vec::new() },
        );
        if let OpKind::Conv(conv) = &mut kind {
            conv.residual = Some(Added {
                value,
                scale,
                step,
                middle: Some(Middle {
                    zero: conv.finish.zero,
                    low: conv.finish.low,
                    high: conv.finish.high,
                    scale: own_scale,
                }),
            });
            conv.finish = finish;
        }
        program.ops[i].kind = kind;
    }
}

/// Operators whose values nobody reads.
pub fn remove_unused(program: &mut Program, outputs: &[Id]) {
    let mut wanted = vec![false; program.values.len()];
    for &id in outputs {
        wanted[program.root(id)] = true;
    }
    let mut keep = vec![false; program.ops.len()];
    for i in (0..program.ops.len()).rev() {
        let op = &program.ops[i];
        if wanted[program.root(op.output)] {
            keep[i] = true;
            for input in op.inputs() {
                wanted[program.root(input)] = true;
            }
        }
    }
    let mut keep = keep.into_iter();
    program.ops.retain(|_| keep.next().unwrap_or(true));
}
