//! Commands as tests write them.

use smallvec::smallvec;

use super::{
    Driver,
    defined::{B, OPTIMIZER, W},
};
use crate::{
    attrs::{Attr, Attrs},
    aval::Aval,
    command::{
        Callee, FunctionCall, FunctionDefinition, GradientOutput, GradientPair, GradientRequest,
        Handle, Kind,
    },
    dtype::DType,
    ops,
};

/// Writes commands, with a new handle for each result.
pub(super) struct Writer<'a> {
    pub(super) driver: &'a mut Driver,
    pub(super) next: Handle,
}

impl Writer<'_> {
    pub(super) fn fresh(&mut self) -> Handle {
        self.next += 1;
        self.next
    }

    pub(super) fn tell(&mut self, kind: Kind) {
        self.driver.apply(kind).unwrap();
    }

    pub(super) fn op(&mut self, name: &str, inputs: &[Handle], attrs: &[(&str, Attr)]) -> Handle {
        let op = ops::find(name).unwrap();
        let given = attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let attrs = Attrs::check(op.attrs, given.collect()).unwrap();
        let output = self.fresh();
        let (inputs, outputs) = (inputs.into(), smallvec![output]);
        self.tell(Kind::Op { op, attrs, inputs, outputs });
        output
    }

    pub(super) fn tape(&mut self, persistent: bool) -> Handle {
        let tape = self.fresh();
        let watch_accessed_variables = true;
        self.tell(Kind::OpenTape { tape, persistent, watch_accessed_variables, paused: false });
        tape
    }

    pub(super) fn gradients(
        &mut self,
        tape: Handle,
        target: Handle,
        sources: &[Handle],
    ) -> Vec<Handle> {
        let outputs: Vec<Handle> = sources.iter().map(|_| self.fresh()).collect();
        self.tell(Kind::Gradient(GradientRequest {
            tape,
            targets: vec![target],
            sources: sources.to_vec(),
            outputs: outputs
                .iter()
                .map(|&gradient| GradientOutput { gradient, indices: 0 })
                .collect(),
            seeds: Vec::new(),
            zero_unconnected: false,
            expected: vec![],
        }));
        self.tell(Kind::StopTape { tape, require_recording: false });
        outputs
    }

    pub(super) fn minimize(&mut self, gradients: &[Handle]) {
        let pair = |(&variable, &gradient)| GradientPair {
            variable,
            gradient,
            indices: 0,
            exclude_from_weight_decay: false,
            exclude_from_orthogonalization: false,
        };
        let pairs = [W, B].iter().zip(gradients).map(pair).collect();
        self.tell(Kind::ApplyOptimizer { optimizer: OPTIMIZER, pairs });
    }

    /// Defines a function here.
    pub(super) fn within(&mut self, show: impl FnOnce(&mut Self, Handle) -> Vec<Handle>) -> Handle {
        let (function, parameter) = (self.fresh(), self.fresh());
        let (parameters, specs) = (vec![parameter], Ok(vec![Aval::new(DType::F32, [2, 3])]));
        self.tell(Kind::DefineFunction(FunctionDefinition { function, parameters, specs }));
        let results = show(self, parameter);
        self.tell(Kind::FinishFunction { function, results, abandon: false });
        function
    }

    pub(super) fn call(&mut self, function: Handle, argument: Handle) -> Handle {
        let output = self.fresh();
        let (callee, arguments) = (Callee::Defined(function), vec![argument]);
        self.tell(Kind::CallFunction(FunctionCall { callee, arguments, outputs: vec![output] }));
        output
    }

    /// The state of a generator, which moves on by so many draws.
    pub(super) fn draw(&mut self, generator: Handle, draws: i64) -> Handle {
        let output = self.fresh();
        self.tell(Kind::NextGeneratorState { generator, output, draws });
        output
    }

    /// The mean of the squares of x w + b.
    pub(super) fn loss(&mut self, x: Handle) -> Handle {
        let product = self.op("matmul", &[x, W], &[]);
        let sum = self.op("add", &[product, B], &[]);
        let curved = self.op("tanh", &[sum], &[]);
        let square = self.op("square", &[curved], &[]);
        self.op("reduce_mean", &[square], &[])
    }

    /// A number of the optimizer.
    pub(super) fn number(&mut self, name: &str) -> Handle {
        let output = self.fresh();
        let (optimizer, name, variable) = (OPTIMIZER, name.into(), 0);
        self.tell(Kind::ReadOptimizer { optimizer, name, variable, output });
        output
    }

    /// A step of the loss, multiplied by what the optimizer divides gradients by.
    pub(super) fn step(&mut self, x: Handle) -> Handle {
        let tape = self.tape(false);
        let loss = self.loss(x);
        let scale = self.number("loss_scale");
        let mut scaled = self.op("multiply", &[loss, scale], &[]);
        // So steep that a large scale leaves nothing finite.
        for _ in 0..8 {
            scaled = self.op("add", &[scaled, scaled], &[]);
        }
        let gradients = self.gradients(tape, scaled, &[W, B]);
        self.minimize(&gradients);
        loss
    }
}
