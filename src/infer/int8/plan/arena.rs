//! Where every tensor lies.
//!
//! Tensors that are not needed at the same time share bytes. What is put together later (a concatenation) is written
//! straight to its place in the whole, where its step is the same and nobody reads and writes the whole at once.

use super::super::ir::{Id, Kind, OpKind, Program};
use super::build::ARENA_MAX;
use crate::kernels::layout::Layout;
use std::collections::HashMap;
use std::ops::Range;

/// Starts of tensors: a cache line, and the widest vectors.
const ALIGN: usize = 64;

pub struct Arena {
    /// By value: where its bytes begin, and how they lie.
    pub places: Vec<Option<(usize, Layout)>>,
    /// By value: f32 tensors.
    pub floats: Vec<Range<usize>>,
    pub bytes: usize,
    pub float_count: usize,
}

impl Arena {
    pub fn new(program: &Program) -> Arena {
        let inside = concatenations(program);
        let mut spans = lifetimes(program, &inside);
        let bytes = allocate(&mut spans);
        let mut places: Vec<Option<(usize, Layout)>> = vec![None; program.values.len()];
        for (id, place_of) in places.iter_mut().enumerate() {
            if !matches!(program.values[id].kind, Kind::Floats) {
                *place_of = place(program, &inside, &spans, id);
            }
        }
        let mut floats = vec![0..0; program.values.len()];
        let mut float_count = 0;
        // Few and small: the ends of a network. Each has a place of its own.
        for op in &program.ops {
            let root = program.root(op.output);
            if matches!(program.values[root].kind, Kind::Floats) && floats[root].is_empty() {
                let length = program.values[root].dims().iter().product::<usize>();
                floats[root] = float_count..float_count + length;
                float_count += length;
                // The caller refuses what is larger; on 32 bits the sum would soon be none.
                if float_count > ARENA_MAX / 4 {
                    break;
                }
            }
        }
        for id in 0..program.values.len() {
            floats[id] = floats[program.root(id)].clone();
        }
        Arena {
            places,
            floats,
            bytes,
            float_count,
        }
    }
}

/// For each value that lies inside of another: which, and at which channel.
type Inside = HashMap<Id, (Id, usize)>;

fn place(program: &Program, inside: &Inside, spans: &HashMap<Id, Span>, id: Id) -> Option<(usize, Layout)> {
    let root = program.root(id);
    let [h, w, c] = program.values[id].dims();
    let mut layout = Layout::dense(h, w, c);
    let (mut at, mut offset) = (root, 0);
    while let Some(&(whole, channel)) = inside.get(&at) {
        let [_, _, channels] = program.values[whole].dims();
        (layout.pixel, layout.row) = (channels, w * channels);
        offset += channel;
        at = program.root(whole);
    }
    Some((spans.get(&at)?.start + offset, layout))
}

/// The value whose bytes hold those of `root`.
fn family(program: &Program, inside: &Inside, mut root: Id) -> Id {
    while let Some(&(whole, _)) = inside.get(&root) {
        root = program.root(whole);
    }
    root
}

fn concatenations(program: &Program) -> Inside {
    // Whoever is seen under other dimensions has to lie without gaps.
    let mut dense = vec![false; program.values.len()];
    for (id, value) in program.values.iter().enumerate() {
        let root = program.root(id);
        dense[root] |= value.dims() != program.values[root].dims();
    }
    let mut makers: HashMap<Id, Vec<usize>> = HashMap::new();
    let mut readers: HashMap<Id, Vec<usize>> = HashMap::new();
    for (i, op) in program.ops.iter().enumerate() {
        makers.entry(program.root(op.output)).or_default().push(i);
        for input in op.inputs() {
            readers.entry(program.root(input)).or_default().push(i);
            dense[program.root(input)] |= matches!(op.kind, OpKind::Permute { .. });
        }
        dense[program.root(op.output)] |= matches!(op.kind, OpKind::Permute { .. } | OpKind::Constant { .. });
    }
    let mut inside = Inside::new();
    for (i, op) in program.ops.iter().enumerate() {
        let OpKind::Concat { inputs } = &op.kind else {
            continue;
        };
        let whole = program.root(op.output);
        let mut channel = 0;
        for (id, table) in inputs {
            let root = program.root(*id);
            let start = channel;
            channel += program.values[*id].dims()[2];
            let alone = inputs
                .iter()
                .filter(|(other, _)| program.root(*other) == root)
                .count()
                == 1;
            if table.is_some() || dense[root] || !alone || inside.contains_key(&root) || root == whole {
                continue;
            }
            let target = family(program, &inside, whole);
            // Nobody may read the whole (or another part of it) while this part is written, nor the other way.
            let of = |id: Id| family(program, &inside, program.root(id));
            let writes_apart = makers.get(&root).is_some_and(|m| {
                m.iter()
                    .all(|&m| program.ops[m].inputs().iter().all(|&id| of(id) != target))
            });
            let reads_apart = readers
                .get(&root)
                .is_some_and(|r| r.iter().all(|&r| r == i || of(program.ops[r].output) != target));
            // Parts of this part must not be read where the whole is written either.
            let simple = !makers.get(&root).is_some_and(|m| {
                m.iter()
                    .any(|&m| matches!(program.ops[m].kind, OpKind::Concat { .. }))
            });
            if writes_apart && reads_apart && simple && target != root {
                inside.insert(root, (op.output, start));
            }
        }
    }
    inside
}

struct Span {
    size: usize,
    /// Operators from the first that writes to the last that reads.
    life: Range<usize>,
    start: usize,
}

fn lifetimes(program: &Program, inside: &Inside) -> HashMap<Id, Span> {
    let mut spans: HashMap<Id, Span> = HashMap::new();
    let mut touch = |id: Id, at: usize| {
        let root = family(program, inside, program.root(id));
        if matches!(program.values[root].kind, Kind::Floats) {
            return;
        }
        let size = program.values[root].dims().iter().product();
        let span = spans.entry(root).or_insert(Span {
            size,
            life: at..at + 1,
            start: 0,
        });
        span.life.start = span.life.start.min(at);
        span.life.end = span.life.end.max(at + 1);
    };
    for (i, op) in program.ops.iter().enumerate() {
        touch(op.output, i);
        op.inputs().into_iter().for_each(|input| touch(input, i));
        if matches!(op.kind, OpKind::Constant { .. }) {
            // Written once, before the first run.
            touch(op.output, 0);
            touch(op.output, program.ops.len());
        }
    }
    spans
}

/// Largest first, each at the lowest place that is free for as long as it lives. Gives the size of the whole.
fn allocate(spans: &mut HashMap<Id, Span>) -> usize {
    let mut order: Vec<Id> = spans.keys().copied().collect();
    order.sort_by_key(|id| (std::cmp::Reverse(spans[id].size), *id));
    let mut placed: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    let mut end = 0;
    for id in order {
        let Some(span) = spans.get_mut(&id) else { continue };
        let mut taken: Vec<&Range<usize>> = placed
            .iter()
            .filter(|(life, _)| life.start < span.life.end && span.life.start < life.end)
            .map(|(_, bytes)| bytes)
            .collect();
        taken.sort_by_key(|bytes| bytes.start);
        let mut start = 0;
        for bytes in taken {
            if start + span.size <= bytes.start {
                break;
            }
            start = start.max(bytes.end.next_multiple_of(ALIGN));
        }
        span.start = start;
        placed.push((span.life.clone(), start..start + span.size));
        end = end.max(start + span.size);
        if end > ARENA_MAX {
            break;
        }
    }
    end
}
