//! The engine's hot paths as workloads: a session that is ready, and what is then counted. The counting itself is in
//! `benches/benches/instructions.rs`; `cargo xtask test --only instructions` compares it with `benches/instructions.txt`.

use std::sync::Arc;

use gradtape_engine::{
    array::Tensor,
    attrs::{Attr, Attrs},
    aval::Aval,
    command::{
        Answer, Callee, Command, FunctionCall, FunctionDefinition, GradientOutput, GradientPair,
        GradientRequest, Handle, Kind,
    },
    dtype::DType,
    error::Error,
    ledger::Ledger,
    ops,
    session::Session,
};
use smallvec::smallvec;

/// Ops of a workload.
pub const OPS: u64 = 1_000;

/// Calls of a function.
pub const CALLS: u64 = 100;

const X: Handle = 1;
const TAPE: Handle = 2;
const OPTIMIZER: Handle = 3;
const FUNCTION: Handle = 4;
const PARAMETER: Handle = 5;
const RESULT: Handle = 6;
/// The first result; those after it follow.
const FIRST: Handle = 1 << 20;
const VARIABLES: std::ops::Range<Handle> = 10..20;
/// Where the gradient of a variable is, from its handle.
const GRADIENT: Handle = 100;

/// A session and the number of its next command.
#[derive(Debug)]
pub struct Workload {
    session: Session,
    ledger: Arc<Ledger>,
    sequence: u64,
}

impl Workload {
    /// A session with a vector of ten numbers.
    pub fn new() -> Result<Self, Error> {
        let ledger = Ledger::new("bench", 1 << 30);
        let session = Session::new(Arc::clone(&ledger));
        let mut workload = Self { session, ledger, sequence: 0 };
        workload.constant(X)?;
        Ok(workload)
    }

    /// The same with a tape that watches the vector.
    pub fn taped() -> Result<Self, Error> {
        let mut workload = Self::new()?;
        let (tape, watch_accessed_variables) = (TAPE, true);
        workload.apply(Kind::OpenTape {
            tape,
            persistent: true,
            watch_accessed_variables,
            paused: false,
        })?;
        workload.apply(Kind::WatchTape { tape: TAPE, values: vec![X] })?;
        Ok(workload)
    }

    /// The same with a chain of ops on the tape.
    pub fn recorded() -> Result<Self, Error> {
        let mut workload = Self::taped()?;
        workload.chain()?;
        Ok(workload)
    }

    /// Ten variables with gradients, and an Adam that has taken its first step and so made its slots.
    pub fn optimizing() -> Result<Self, Error> {
        let mut workload = Self::new()?;
        let name = "adam".into();
        workload.apply(Kind::CreateOptimizer {
            optimizer: OPTIMIZER,
            name,
            hyperparameters: vec![("learning_rate".to_owned(), Attr::Double(0.1))],
            schedule: None,
        })?;
        for variable in VARIABLES {
            workload.apply(Kind::CreateVariable {
                variable,
                name: "w".into(),
                initial: X,
                trainable: true,
            })?;
            workload.constant(variable + GRADIENT)?;
        }
        workload.step()?;
        Ok(workload)
    }

    /// The same with a training step as a function, which has been called, and so has a plan.
    pub fn planned() -> Result<Self, Error> {
        let mut workload = Self::optimizing()?;
        let (variable, product) = (VARIABLES.start, FIRST);
        workload.apply(Kind::DefineFunction(FunctionDefinition {
            function: FUNCTION,
            parameters: vec![PARAMETER],
            specs: Ok(vec![Aval::new(DType::F32, &[10][..])]),
        }))?;
        let (tape, watch_accessed_variables) = (TAPE, true);
        workload.apply(Kind::OpenTape {
            tape,
            persistent: false,
            watch_accessed_variables,
            paused: false,
        })?;
        workload.apply(Kind::Op {
            op: &ops::MULTIPLY,
            attrs: Attrs::default(),
            inputs: smallvec![variable, PARAMETER],
            outputs: smallvec![product],
        })?;
        let gradient = FIRST + 1;
        workload.apply(Kind::Gradient(differentiate(product, variable, gradient)))?;
        let pairs = vec![pair(variable, gradient)];
        workload.apply(Kind::ApplyOptimizer { optimizer: OPTIMIZER, pairs })?;
        let (results, abandon) = (vec![product], false);
        workload.apply(Kind::FinishFunction { function: FUNCTION, results, abandon })?;
        workload.call()?;
        Ok(workload)
    }

    /// Calls the function again and again.
    pub fn calls(&mut self) -> Result<(), Error> {
        (0..CALLS).try_for_each(|_| self.call())
    }

    fn call(&mut self) -> Result<(), Error> {
        let (callee, arguments, outputs) = (Callee::Defined(FUNCTION), vec![X], vec![RESULT]);
        self.apply(Kind::CallFunction(FunctionCall { callee, arguments, outputs }))?;
        self.apply(Kind::Release { handles: vec![RESULT] })?;
        Ok(())
    }

    /// Multiplies the vector by itself, the product by the vector, and so on.
    pub fn chain(&mut self) -> Result<(), Error> {
        for number in 0..OPS {
            let input = if number == 0 { X } else { FIRST + number - 1 };
            self.apply(Kind::Op {
                op: &ops::MULTIPLY,
                attrs: Attrs::default(),
                inputs: smallvec![input, X],
                outputs: smallvec![FIRST + number],
            })?;
        }
        Ok(())
    }

    /// Differentiates the end of the chain.
    pub fn gradient(&mut self) -> Result<(), Error> {
        self.apply(Kind::Gradient(differentiate(FIRST + OPS - 1, X, GRADIENT)))?;
        Ok(())
    }

    /// One step of the optimizer for all variables.
    pub fn step(&mut self) -> Result<(), Error> {
        let pairs = VARIABLES.map(|variable| pair(variable, variable + GRADIENT)).collect();
        self.apply(Kind::ApplyOptimizer { optimizer: OPTIMIZER, pairs })?;
        Ok(())
    }

    fn constant(&mut self, output: Handle) -> Result<(), Error> {
        let bytes: Vec<u8> = [1.0f32; 10].iter().flat_map(|x| x.to_le_bytes()).collect();
        let value = Tensor::from_bytes(&self.ledger, &Aval::new(DType::F32, &[10][..]), &bytes)?;
        self.apply(Kind::Constant { output, value })?;
        Ok(())
    }

    fn apply(&mut self, kind: Kind) -> Result<Answer, Error> {
        self.sequence += 1;
        let command = Command { kind, tag: "".into(), scope: 0, source: None };
        self.session.apply(self.sequence, command).result.map_err(|failure| failure.error)
    }
}

fn differentiate(target: Handle, source: Handle, gradient: Handle) -> GradientRequest {
    GradientRequest {
        tape: TAPE,
        targets: vec![target],
        sources: vec![source],
        outputs: vec![GradientOutput { gradient, indices: 0 }],
        seeds: vec![],
        zero_unconnected: false,
        expected: Vec::new(),
    }
}

fn pair(variable: Handle, gradient: Handle) -> GradientPair {
    GradientPair {
        variable,
        gradient,
        indices: 0,
        exclude_from_weight_decay: false,
        exclude_from_orthogonalization: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workload that fails would be quick.
    #[test]
    fn every_workload_goes_well() {
        Workload::new().unwrap().chain().unwrap();
        Workload::taped().unwrap().chain().unwrap();
        Workload::recorded().unwrap().gradient().unwrap();
        Workload::optimizing().unwrap().step().unwrap();
        Workload::planned().unwrap().calls().unwrap();
    }
}
