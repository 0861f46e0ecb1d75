//! Random small graphs: what the plan of the whole gives against the operators one by one, reckoned in f64 by plain loops,
//! and the same bits on every instruction set of this machine, by one thread, two and three.
//!
//! `ELEK_GRAPHS` is the number of graphs (300), `ELEK_GRAPHS_FROM` the first seed (0); `make test-long` takes 50,000.

#[path = "common/random_graph.rs"]
mod random_graph;

use elek::infer::int8;
use elek::infer::int8::plan::{Cutting, Plan, State};
use elek::kernels::isa::Isa;
use elek::kernels::team::{Broken, Team};
use random_graph::Graph;
use std::sync::Arc;

/// A value at a half may be rounded the other way (f32 against f64), and an activation of a sum that was never quantized is
/// looked up in a table of 4,096 entries, which is a step away now and then. Later operators see that, an upsampling many
/// times: so this share of the values, or these few, may be further away than so many steps.
const AWAY: [(f64, f64, usize); 2] = [(3.5, 0.1, 4), (8.5, 0.01, 4)];
/// Of all values of all graphs, those that have to be equal.
const EQUAL_IN_ALL: f64 = 0.98;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|e| panic!("{name}: {e}"))
    })
}

/// How many values are equal, and how many there are.
fn check(graph: &Graph, teams: &[Arc<Team>]) -> Result<(usize, usize), String> {
    let lowered = int8::lower(&graph.proto, "image", &graph.input_shape, &graph.output)
        .map_err(|error| format!("not lowered: {error:#}"))?;
    let left = lowered.partition.left.iter();
    let left = left.map(|l| format!("{}: {}", lowered.graph.nodes[l.position].op, l.reason));
    let left: Vec<String> = left.collect();
    let region = lowered
        .whole()
        .ok_or_else(|| format!("left to tract: {left:?}"))?;
    let mut first: Option<Vec<f32>> = None;
    for isa in Isa::all() {
        let plan = Arc::new(Plan::new(region, isa).map_err(|error| format!("no plan: {error:#}"))?);
        let mut output = vec![0.0; graph.expected.len()];
        let together = teams
            .iter()
            .map(|team| State::with_team(plan.clone(), Some(team.clone()), Cutting::Always));
        for (threads, mut state) in (1..).zip(std::iter::once(State::new(plan.clone())).chain(together)) {
            // Twice: what is left in the arena must not matter.
            for _ in 0..2 {
                state.run(&[&graph.input]).map_err(|error| error.to_string())?;
                state.output(0, &mut output);
                let same = first.get_or_insert_with(|| output.clone());
                if *same != output {
                    return Err(format!("other bits on {isa:?} by {threads} threads"));
                }
            }
        }
    }
    let output = first.ok_or("there is no instruction set")?;
    let off = output.iter().zip(&graph.expected);
    let off: Vec<f64> = off
        .map(|(a, b)| ((f64::from(*a) - b) / graph.step).abs())
        .collect();
    let equal = off.iter().filter(|d| **d < 0.5).count();
    for (steps, share, few) in AWAY {
        let further = off.iter().filter(|d| **d > steps).count();
        if further > few.max((share * off.len() as f64) as usize) {
            let furthest = off.iter().copied().fold(0.0, f64::max);
            return Err(format!(
                "{equal} of {} values are equal, {further} further away than {steps} steps, up to {furthest:.1}",
                off.len()
            ));
        }
    }
    Ok((equal, off.len()))
}

#[test]
fn a_plan_gives_what_its_operators_give_one_by_one() {
    let (from, count) = (number("ELEK_GRAPHS_FROM", 0), number("ELEK_GRAPHS", 300));
    let (mut equal, mut all, mut failures) = (0, 0, Vec::new());
    let teams = [2, 3].map(|threads| Arc::new(Team::new(threads).unwrap()));
    for seed in from..from + count {
        let graph = random_graph::draw(seed);
        match check(&graph, &teams) {
            Ok((same, total)) => (equal, all) = (equal + same, all + total),
            Err(error) => failures.push(format!("seed {seed}: {error}\n  {}", graph.words.join("\n  "))),
        }
    }
    println!(
        "seeds {from} to {}: {equal} of {all} values are equal",
        from + count - 1
    );
    let few = failures.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        failures.is_empty(),
        "{} of {count} graphs:\n{few}",
        failures.len()
    );
    assert!(
        equal as f64 > EQUAL_IN_ALL * all as f64,
        "{equal} of {all} values are equal"
    );
}

#[test]
fn a_kernel_that_panics_ends_one_run_and_nothing_else() {
    let graph = (0..)
        .map(random_graph::draw)
        .find(|graph| graph.input_shape[2] > 1);
    let graph = graph.expect("most pictures have several rows");
    let lowered = int8::lower(&graph.proto, "image", &graph.input_shape, &graph.output).unwrap();
    let plan = Arc::new(Plan::new(lowered.whole().unwrap(), Isa::best()).unwrap());
    let team = Arc::new(Team::new(2).unwrap());
    let mut alone = State::new(plan.clone());
    let mut together = State::with_team(plan, Some(team), Cutting::Always);
    // A picture that ends too early.
    assert_eq!(together.run(&[&graph.input[..1]]), Err(Broken));
    let [mut right, mut got] = [0, 1].map(|_| vec![0.0; graph.expected.len()]);
    alone.run(&[&graph.input]).unwrap();
    alone.output(0, &mut right);
    together.run(&[&graph.input]).unwrap();
    together.output(0, &mut got);
    assert!(got == right);
}
