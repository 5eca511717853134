//! Pricing and running: nothing is allocated before its price is known and paid.

use std::sync::{Arc, OnceLock};

use smallvec::{SmallVec, smallvec};

use crate::{
    array::{Array, Tensor},
    attrs::Attrs,
    aval::{Aval, Avals},
    compute,
    error::Error,
    graph::{Application, Operand, Program, Value, ValueId},
    half_precision::{copies, narrow, widen, widened},
    kernels::block,
    ledger::Ledger,
    op::{Arrays, Call, Cost, Kernel, OpDef},
    plan,
};

/// Most arithmetic operations of one application, about two minutes of one core's vector units.
pub const MAX_FLOPS: u64 = 200_000_000_000;

/// Tensors of an application's outputs.
pub type Tensors = SmallVec<[Tensor; 1]>;

/// Abstract values of an application's outputs, checked: everything passes here before it is recorded or run.
pub fn infer(op: &'static OpDef, attrs: &Attrs, inputs: &[Aval]) -> Result<Avals, Error> {
    Ok(price(op, attrs, inputs)?.0)
}

/// The same, and what the application costs.
pub(crate) fn price(
    op: &'static OpDef,
    attrs: &Attrs,
    inputs: &[Aval],
) -> Result<(Avals, Cost), Error> {
    let fits = if op.variadic {
        inputs.len() + 1 >= op.inputs.len()
    } else {
        inputs.len() == op.inputs.len()
    };
    if !fits {
        return Err(Error::InputCount {
            expected: COUNTS[op.inputs.len().min(COUNTS.len() - 1)],
            given: inputs.len(),
        });
    }
    if let Some(first) = inputs.first()
        && !op.dtypes.contains(first.dtype)
    {
        return Err(Error::UnsupportedDType { dtype: first.dtype, accepted: op.dtypes });
    }
    let call = Call { op, attrs, inputs };
    let outputs = (op.infer)(&call)?;
    for output in &outputs {
        output.shape.check()?;
    }
    let cost = cost(&call, &outputs);
    if cost.flops > MAX_FLOPS {
        return Err(Error::CostTooHigh { flops: cost.flops, limit: MAX_FLOPS });
    }
    Ok((outputs, cost))
}

/// What a call costs, with the copies that half precision needs.
pub(crate) fn cost(call: &Call, outputs: &[Aval]) -> Cost {
    let own = |call: &Call, outputs: &[Aval]| {
        let mut cost = (call.op.cost)(call, outputs);
        if let Kernel::Elementwise(_) = call.op.kernel {
            cost.workspace += block::workspace(call.inputs, &outputs[0]);
        }
        cost
    };
    if !call.inputs.iter().chain(outputs).any(|aval| aval.dtype.is_half()) {
        return own(call, outputs);
    }
    let inputs = widened(call.inputs);
    let mut cost = own(&Call { inputs: &inputs, ..*call }, &widened(outputs));
    let copies = copies(call.inputs).saturating_add(copies(outputs));
    cost.workspace = cost.workspace.saturating_add(copies);
    cost
}

const COUNTS: [&str; 5] = ["0", "1", "2", "3", "4 or more"];

/// Prices and runs one application of an op that is not a composite.
pub fn run(
    ledger: &Arc<Ledger>,
    op: &'static OpDef,
    attrs: &Attrs,
    inputs: &[&Tensor],
) -> Result<Tensors, Error> {
    compute::check()?;
    let avals: Avals = inputs.iter().map(|tensor| tensor.aval()).collect();
    let (outputs, cost) = price(op, attrs, &avals)?;
    if inputs.iter().any(|tensor| tensor.slot().is_some()) {
        return Err(Error::bug(format!("{} runs on a tensor without elements", op.name)));
    }
    let call = Call { op, attrs, inputs: &avals };
    if let Kernel::Alias = op.kernel {
        return Ok(smallvec![inputs[0].reshaped(&outputs[0].shape)?]);
    }
    if let Kernel::Control(run) = op.kernel {
        return run(&call, inputs, ledger);
    }
    let workspace = ledger.reserve(cost.workspace)?;
    let charges: SmallVec<[_; 1]> =
        outputs.iter().map(|output| ledger.reserve(output.bytes())).collect::<Result<_, _>>()?;
    let arrays: SmallVec<[&Array; 4]> = inputs.iter().map(|tensor| tensor.array()).collect();
    let results = compute(&call, &outputs, &arrays)?;
    drop(workspace);
    Ok(results
        .into_iter()
        .zip(charges)
        .map(|(array, charge)| Tensor::paid(array, charge))
        .collect())
}

/// Runs the kernel of a call that is priced and paid for.
pub(crate) fn compute(call: &Call, outputs: &[Aval], arrays: &[&Array]) -> Result<Arrays, Error> {
    let results = if call.inputs.iter().chain(outputs).any(|aval| aval.dtype.is_half()) {
        run_widened(call, outputs, arrays)?
    } else {
        kernel(call, outputs, arrays)?
    };
    for (result, output) in results.iter().zip(outputs) {
        debug_assert_eq!(
            result.aval(),
            *output,
            "{}: infer disagrees with the kernel",
            call.op.name
        );
    }
    Ok(results)
}

fn kernel(call: &Call, outputs: &[Aval], arrays: &[&Array]) -> Result<Arrays, Error> {
    let name = call.op.name;
    match call.op.kernel {
        Kernel::Run(run) | Kernel::Fold(run, _) => run(call, outputs, arrays),
        Kernel::Elementwise(blocks) => {
            let dtype = call.inputs.first().unwrap_or(&outputs[0]).dtype;
            let kernel =
                blocks(dtype).ok_or(Error::UnsupportedDType { dtype, accepted: call.op.dtypes })?;
            Ok(smallvec![block::run(kernel, call.attrs, &outputs[0], arrays)?])
        }
        Kernel::Alias | Kernel::Control(_) | Kernel::Composite(_) => {
            Err(Error::bug(format!("{name} has no kernel of its own")))
        }
    }
}

/// Runs a kernel in `float32` where tensors are of half precision.
fn run_widened(call: &Call, outputs: &[Aval], inputs: &[&Array]) -> Result<Arrays, Error> {
    let wide: SmallVec<[_; 4]> =
        inputs.iter().map(|array| widen(array)).collect::<Result<_, _>>()?;
    let arrays: SmallVec<[&Array; 4]> = wide.iter().map(AsRef::as_ref).collect();
    let avals = widened(call.inputs);
    let call = Call { inputs: &avals, ..*call };
    let mut results = kernel(&call, &widened(outputs), &arrays)?;
    for (result, output) in results.iter_mut().zip(outputs) {
        if output.dtype.is_half() {
            *result = narrow(result, output.dtype)?;
        }
    }
    Ok(results)
}

/// Hears of every application that a program ran, in order, and gives its results their identities.
pub trait Recorder {
    /// An application ran. Returns the identities of its outputs.
    fn ran(
        &mut self,
        application: &Application,
        inputs: &[&Value],
        outputs: &[Tensor],
    ) -> SmallVec<[ValueId; 1]>;

    /// Whether anything is done with what it hears. If not, a program may run as a plan, in which some of its values never
    /// exist, and [`Recorder::name`] names its results.
    fn hears(&self) -> bool {
        true
    }

    /// A new identity for a result of a program of which nothing is heard.
    fn name(&mut self) -> ValueId {
        ValueId(0)
    }
}

/// Bytes of its values for each application from which on a program is worth a plan that runs once. Making a plan takes
/// about as long as going through so much memory.
const WORTH_A_PLAN: u64 = 16 << 10;

fn is_worth_a_plan(program: &Program) -> bool {
    let slots = program.applications.iter().flat_map(|application| &application.outputs);
    let bytes = slots.map(|&slot| program.avals[slot].bytes()).fold(0, u64::saturating_add);
    bytes / WORTH_A_PLAN > program.applications.len() as u64
}

/// Runs what a program needs for the given slots, and frees every intermediate value after its last use.
///
/// # Errors
///
/// Nothing runs if the memory at the program's peak cannot be had.
pub fn run_program(
    ledger: &Arc<Ledger>,
    program: Program,
    wanted: &[usize],
    recorder: &mut dyn Recorder,
) -> Result<Vec<Value>, Error> {
    if !recorder.hears() && is_worth_a_plan(&program) {
        let plan = plan::Plan::compile(ledger, &program, wanted, plan::Passes::ALL)?;
        // Another order may need more at one time.
        if ledger.admit(plan.peak()).is_ok() {
            drop(program);
            let tensors = plan.run_once(ledger)?.into_iter();
            return Ok(tensors.map(|tensor| Value { id: recorder.name(), tensor }).collect());
        }
    }
    let plan = Plan::new(&program, wanted);
    ledger.admit(plan.peak(&program))?;
    let mut values: Vec<Option<Value>> = vec![None; program.avals.len()];
    for (slot, operand) in program.operands {
        if let Some(tensor) = operand.tensor {
            values[slot] = Some(Value { id: operand.id, tensor });
        }
    }
    run_applications(ledger, &program.applications, &plan, values, wanted, recorder)
}

/// A program that is run often, with other inputs each time: as a plan while nothing is heard of it, else op by op.
#[derive(Debug)]
pub struct Prepared {
    program: Program,
    wanted: Vec<usize>,
    plan: Plan,
    peak: u64,
    flops: u64,
    /// Made by the first run of which nothing is heard.
    fast: OnceLock<plan::Plan>,
}

impl Prepared {
    /// Prepares a program for the given slots.
    pub fn new(program: Program, wanted: Vec<usize>) -> Self {
        let plan = Plan::new(&program, &wanted);
        let (peak, flops) = (plan.peak(&program), plan.flops(&program));
        Self { program, wanted, plan, peak, flops, fast: OnceLock::new() }
    }

    /// Most bytes that a run takes at one time, without its inputs.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// About how many arithmetic operations a run takes.
    pub fn flops(&self) -> u64 {
        self.flops
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// It as a plan, if that was made.
    pub fn planned(&self) -> Option<&plan::Plan> {
        self.fast.get()
    }

    /// The slots that it is run for.
    pub fn wanted(&self) -> &[usize] {
        &self.wanted
    }

    /// Runs it with these values in the slots that nothing in it fills.
    ///
    /// # Errors
    ///
    /// Nothing runs if the memory at its peak cannot be had.
    pub fn run(
        &self,
        ledger: &Arc<Ledger>,
        inputs: impl IntoIterator<Item = (usize, Value)>,
        recorder: &mut dyn Recorder,
    ) -> Result<Vec<Value>, Error> {
        if !recorder.hears() {
            let fast = self.plan(ledger)?;
            // Another order may need more at one time.
            if ledger.admit(fast.peak()).is_ok() {
                let inputs = inputs.into_iter().map(|(slot, value)| (slot, value.tensor));
                let tensors = fast.run(ledger, inputs)?.into_iter();
                return Ok(tensors.map(|tensor| Value { id: recorder.name(), tensor }).collect());
            }
        }
        ledger.admit(self.peak)?;
        let mut values: Vec<Option<Value>> = vec![None; self.program.avals.len()];
        for (slot, Operand { id, tensor }) in &self.program.operands {
            values[*slot] = tensor.clone().map(|tensor| Value { id: *id, tensor });
        }
        for (slot, value) in inputs {
            values[slot] = Some(value);
        }
        let applications = &self.program.applications;
        run_applications(ledger, applications, &self.plan, values, &self.wanted, recorder)
    }

    /// It as a plan, which is made now if it was not before.
    ///
    /// # Errors
    ///
    /// Its constants may not fit into the memory.
    pub fn plan(&self, ledger: &Arc<Ledger>) -> Result<&plan::Plan, Error> {
        if let Some(made) = self.planned() {
            return Ok(made);
        }
        let made = plan::Plan::compile(ledger, &self.program, &self.wanted, plan::Passes::ALL)?;
        Ok(self.fast.get_or_init(|| made))
    }
}

fn run_applications(
    ledger: &Arc<Ledger>,
    applications: &[Application],
    plan: &Plan,
    mut values: Vec<Option<Value>>,
    wanted: &[usize],
    recorder: &mut dyn Recorder,
) -> Result<Vec<Value>, Error> {
    for (i, application) in applications.iter().enumerate() {
        if !plan.needed[i] {
            continue;
        }
        let (outputs, ids) = {
            let read = |&slot: &usize| values[slot].as_ref().ok_or_else(|| not_kept(application));
            let inputs: SmallVec<[&Value; 3]> =
                application.inputs.iter().map(read).collect::<Result<_, _>>()?;
            let tensors: SmallVec<[&Tensor; 3]> =
                inputs.iter().map(|value| &value.tensor).collect();
            let outputs = run(ledger, application.op, &application.attrs, &tensors)?;
            let ids = recorder.ran(application, &inputs, &outputs);
            (outputs, ids)
        };
        for ((&slot, id), tensor) in application.outputs.iter().zip(ids).zip(outputs) {
            values[slot] = Some(Value { id, tensor });
        }
        for &slot in &plan.dead_after[i] {
            values[slot] = None;
        }
    }
    wanted
        .iter()
        .map(|&slot| values[slot].clone().ok_or_else(|| Error::bug("a wanted value was not kept")))
        .collect()
}

fn not_kept(application: &Application) -> Error {
    Error::bug(format!("{} reads a value that the tape did not keep", application.op.name))
}

/// Which applications of a program must run for the given slots.
pub fn needed(program: &Program, wanted: &[usize]) -> Vec<bool> {
    Plan::new(program, wanted).needed
}

/// Checks that a program could run now, without running it.
pub fn admit(ledger: &Ledger, program: &Program, wanted: &[usize]) -> Result<(), Error> {
    ledger.admit(Plan::new(program, wanted).peak(program))
}

/// What of a program must run, and when each value dies.
#[derive(Debug)]
struct Plan {
    needed: Vec<bool>,
    dead_after: Vec<SmallVec<[usize; 2]>>,
}

impl Plan {
    fn new(program: &Program, wanted: &[usize]) -> Self {
        let count = program.applications.len();
        let (mut needed, mut dead_after) = (vec![false; count], vec![SmallVec::new(); count]);
        let mut live = vec![false; program.avals.len()];
        for &slot in wanted {
            live[slot] = true;
        }
        for (i, application) in program.applications.iter().enumerate().rev() {
            needed[i] = application.outputs.iter().any(|&slot| live[slot]);
            if !needed[i] {
                continue;
            }
            for &slot in application.outputs.iter().filter(|&&slot| !live[slot]) {
                dead_after[i].push(slot);
            }
            for &slot in &application.inputs {
                if !std::mem::replace(&mut live[slot], true) {
                    dead_after[i].push(slot);
                }
            }
        }
        Self { needed, dead_after }
    }

    /// Arithmetic operations of what must run.
    fn flops(&self, program: &Program) -> u64 {
        let applications = program.applications.iter().zip(&self.needed);
        let needed = applications.filter(|&(_, &needed)| needed);
        needed.fold(0, |sum, (application, _)| {
            let of = |slots: &[usize]| -> Avals {
                slots.iter().map(|&slot| program.avals[slot].clone()).collect()
            };
            let inputs = of(&application.inputs);
            let call = Call { op: application.op, attrs: &application.attrs, inputs: &inputs };
            sum.saturating_add(cost(&call, &of(&application.outputs)).flops)
        })
    }

    /// Most bytes that the program's own values and workspaces take at one time. An upper bound: reshaped values are
    /// counted although they share memory.
    fn peak(&self, program: &Program) -> u64 {
        let mut own = vec![false; program.avals.len()];
        let (mut now, mut peak) = (0_u64, 0_u64);
        for (i, application) in
            program.applications.iter().enumerate().filter(|&(i, _)| self.needed[i])
        {
            for &slot in &application.outputs {
                own[slot] = true;
                now = now.saturating_add(program.avals[slot].bytes());
            }
            peak = peak.max(now.saturating_add(application.workspace));
            for &slot in self.dead_after[i].iter().filter(|&&slot| own[slot]) {
                now = now.saturating_sub(program.avals[slot].bytes());
            }
        }
        peak
    }
}
