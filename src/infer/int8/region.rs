//! A region as an operator of tract.

use super::plan::{Cutting, Plan, State};
use crate::kernels::team::Team;
use std::sync::Arc;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::InferenceOp;
use tract_onnx::tract_hir::internal::*;

/// Name of the node in a rewritten graph.
pub const OPERATOR: &str = "ElekInt8Region";
/// Its attribute: which of the regions it is.
pub const INDEX: &str = "region";

/// The operator as it is read from the graph. Which plan it stands for is told by [`attach`], because a reader of
/// tract's is a plain function.
#[derive(Clone, Debug)]
struct Reader {
    index: usize,
    plan: Option<Arc<Plan>>,
}

impl Reader {
    fn plan(&self) -> TractResult<&Arc<Plan>> {
        self.plan.as_ref().context("a region without a plan")
    }
}

/// Teaches tract's reader the operator.
pub fn register(onnx: &mut tract_onnx::Onnx) {
    onnx.op_register.insert(OPERATOR, |_, node: &NodeProto| {
        let index = node
            .attribute
            .iter()
            .find(|a| a.name == INDEX)
            .map_or(-1, |a| a.i);
        let index = usize::try_from(index).context("a region without a number")?;
        let op: Box<dyn InferenceOp> = expand(Reader { index, plan: None });
        Ok((op, vec![]))
    });
}

/// Gives the nodes of a model their plans.
pub fn attach(model: &mut InferenceModel, plans: &[Arc<Plan>]) -> TractResult<()> {
    for node in model.nodes_mut() {
        if let Some(op) = node.op_as_mut::<Box<dyn Expansion>>()
            && let Some(reader) = op.as_any_mut().downcast_mut::<Reader>()
        {
            let plan = plans.get(reader.index).context("a region that there is not")?;
            reader.plan = Some(plan.clone());
        }
    }
    Ok(())
}

impl Expansion for Reader {
    fn name(&self) -> StaticName {
        OPERATOR.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let plan = self.plan()?;
        check_input_arity(inputs, plan.inputs().len())?;
        check_output_arity(outputs, plan.outputs().len())?;
        for input in inputs {
            s.equals(&input.datum_type, f32::datum_type())?;
        }
        for (proxy, output) in outputs.iter().zip(plan.outputs()) {
            s.equals(&proxy.datum_type, f32::datum_type())?;
            let shape: TVec<TDim> = output.shape.iter().map(|&d| d.to_dim()).collect();
            s.equals(&proxy.shape, shape)?;
        }
        Ok(())
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.plan()?.outputs().len())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let plan = self.plan()?;
        for (&outlet, input) in inputs.iter().zip(plan.inputs()) {
            let fact = model.outlet_fact(outlet)?;
            let shape = fact
                .shape
                .as_concrete()
                .context("an input without a fixed shape")?;
            ensure!(
                shape == input.shape && fact.datum_type == f32::datum_type(),
                "a region's input is {fact:?}, it was planned for {:?}",
                input.shape
            );
        }
        let node = Node {
            plan: plan.clone(),
            team: None,
        };
        model.wire_node(prefix, node, inputs)
    }
}

/// The operator as tract runs it.
#[derive(Clone, Debug)]
struct Node {
    plan: Arc<Plan>,
    /// Who helps with it.
    team: Option<Arc<Team>>,
}

impl Node {
    fn start(&self) -> State {
        State::with_team(self.plan.clone(), self.team.clone(), Cutting::Worthwhile)
    }
}

/// Gives the regions of a model a team.
pub fn help(model: &mut TypedModel, team: &Arc<Team>) {
    for node in model.nodes_mut() {
        if let Some(region) = node.op_as_mut::<Node>() {
            region.team = Some(team.clone());
        }
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan)
    }
}

impl Eq for Node {}

impl Op for Node {
    fn name(&self) -> StaticName {
        OPERATOR.into()
    }

    op_as_typed_op!();
}

impl EvalOp for Node {
    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        run(&mut self.start(), &inputs)
    }

    op_out_of_plan!();

    fn state(&self, _: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        Ok(Some(Box::new(Kept(self.start()))))
    }
}

/// The arena, kept from run to run.
#[derive(Clone, Debug)]
struct Kept(State);

impl OpState for Kept {
    fn eval(&mut self, _: &EvalContext, _: &dyn Op, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        run(&mut self.0, &inputs)
    }

    fn reset_lanes(&mut self, _: &[LaneId]) -> TractResult<()> {
        // Nothing of a run is read by the next one.
        Ok(())
    }
}

impl TypedOp for Node {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let outputs = self.plan.outputs().iter();
        Ok(outputs.map(|output| f32::fact(&*output.shape)).collect())
    }

    as_op!();
}

fn run(state: &mut State, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
    let mut slices: TVec<&[f32]> = TVec::new();
    for input in inputs {
        slices.push(input.try_as_plain_ram()?.as_slice::<f32>()?);
    }
    state.run(&slices)?;
    let plan = state.plan().clone();
    let mut outputs = TVec::new();
    for (i, output) in plan.outputs().iter().enumerate() {
        let mut tensor = Tensor::zero::<f32>(&output.shape)?;
        state.output(i, tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
        outputs.push(tensor.into_tvalue());
    }
    Ok(outputs)
}
