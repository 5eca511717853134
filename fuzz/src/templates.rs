//! Commands that only together make sense: loops with a body that fits, and steps of a training.

use arbitrary::{Result, Unstructured};
use gradtape_engine::{op::OpDef, ops};
use gradtape_proto::v1::{self, command::Kind};

use crate::{
    values,
    writer::{Function, Writer},
};

impl Writer {
    pub(crate) fn template(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        match choices.int_in_range(0..=3)? {
            0 => self.counting_loop(choices)?,
            1 => self.running_sum(choices)?,
            2 => self.either(choices)?,
            _ => self.training(choices)?,
        }
        Ok(self.dequeue())
    }

    /// Queues a function that applies an op to its first parameter and something else, and gives the result.
    fn small_function(
        &mut self,
        choices: &mut Unstructured,
        specs: Vec<v1::TensorSpec>,
        op: &'static OpDef,
        results: usize,
    ) -> Result<Function> {
        let first = self.values.len();
        let (begin, mut function) = self.begin(choices, specs)?;
        let parameter = self.values.get(first).copied().unwrap_or_default();
        let mut inputs = vec![parameter; op.inputs.len().min(1)];
        while inputs.len() < op.inputs.len() {
            inputs.push(if choices.ratio(3, 4)? { parameter } else { self.value(choices)? });
        }
        let apply = self.apply_op(choices, op, inputs, Vec::new())?;
        let last = self.values.last().copied().unwrap_or_default();
        function.results = results;
        let results = vec![last; results];
        let finish = v1::FinishFunction { function: function.handle, results, abandon: false };
        self.queue([begin, apply, Kind::FinishFunction(finish)]);
        self.functions.push(function.clone());
        Ok(function)
    }

    /// A scalar or a vector, and an argument like it.
    fn argument(&mut self, choices: &mut Unstructured) -> Result<(v1::TensorSpec, u64)> {
        let spec = values::spec(choices)?;
        let constant = self.constant_of(choices, spec.clone())?;
        let handle = self.values.last().copied().unwrap_or_default();
        self.queue([constant]);
        if let Some(&tape) = self.tapes.last()
            && choices.ratio(1, 2)?
        {
            self.queue([Kind::WatchTape(v1::WatchTape { tape, values: vec![handle] })]);
        }
        Ok((spec, handle))
    }

    fn counting_loop(&mut self, choices: &mut Unstructured) -> Result<()> {
        let (spec, argument) = self.argument(choices)?;
        let condition = choose(choices, |op| op.inputs.len() == 2 && op.family == "math")?;
        let body = elementwise(choices)?;
        let condition = self.small_function(choices, vec![spec.clone()], condition, 1)?;
        let body = self.small_function(choices, vec![spec], body, 1)?;
        let outputs = vec![self.new_value(choices)?];
        self.queue([Kind::WhileLoop(v1::WhileLoop {
            condition: condition.handle,
            body: body.handle,
            carried: vec![argument],
            maximum_iterations: Some(choices.int_in_range(0..=6)?),
            outputs,
        })]);
        Ok(())
    }

    fn running_sum(&mut self, choices: &mut Unstructured) -> Result<()> {
        let (spec, carried) = self.argument(choices)?;
        let length = choices.int_in_range(0..=4)?;
        let mut stacked = spec.clone();
        stacked.shape.insert(0, i64::from(length));
        let stack = self.constant_of(choices, stacked)?;
        let stacks = self.values.last().copied().into_iter().collect();
        self.queue([stack]);
        let op = elementwise(choices)?;
        let body = self.small_function(choices, vec![spec.clone(), spec], op, 2)?;
        let outputs = vec![self.new_value(choices)?, self.new_value(choices)?];
        self.queue([Kind::Scan(v1::Scan {
            body: body.handle,
            carried: vec![carried],
            stacks,
            length,
            reverse: choices.arbitrary()?,
            outputs,
        })]);
        Ok(())
    }

    fn either(&mut self, choices: &mut Unstructured) -> Result<()> {
        let (spec, argument) = self.argument(choices)?;
        let scalar = v1::TensorSpec { dtype: v1::DataType::Int32.into(), shape: Vec::new() };
        let index = self.constant_of(choices, scalar)?;
        let number = self.values.last().copied().unwrap_or_default();
        self.queue([index]);
        let mut functions = Vec::new();
        for _ in 0..2 {
            let op = elementwise(choices)?;
            functions.push(self.small_function(choices, vec![spec.clone()], op, 1)?.handle);
        }
        let outputs = vec![self.new_value(choices)?];
        let arguments = vec![argument];
        self.queue([Kind::Branch(v1::Branch { index: number, functions, arguments, outputs })]);
        Ok(())
    }

    /// A function that computes a gradient by a tape and takes an optimizer's step, and a loop over it.
    fn training(&mut self, choices: &mut Unstructured) -> Result<()> {
        let (spec, initial_value) = self.argument(choices)?;
        let (variable, optimizer) = (self.fresh(choices)?, self.fresh(choices)?);
        let def = *choices.choose(gradtape_engine::optimizers::ALL)?;
        let name = "w".to_owned();
        let trainable = None;
        self.variables.push(variable);
        let (begin, mut function) = self.begin(choices, vec![spec])?;
        let parameter = self.values.last().copied().unwrap_or_default();
        let tape = self.fresh(choices)?;
        let op = choose(choices, |op| op.inputs.len() == 2 && op.family == "math")?;
        let product = self.apply_op(choices, op, vec![variable, parameter], Vec::new())?;
        let loss = self.values.last().copied().unwrap_or_default();
        let gradient = self.new_value(choices)?;
        let pair = v1::GradientPair { variable, gradient, ..Default::default() };
        function.results = 1;
        let handle = function.handle;
        let finish = v1::FinishFunction { function: handle, results: vec![loss], abandon: false };
        let outputs = vec![self.new_value(choices)?];
        self.queue([
            Kind::CreateVariable(v1::CreateVariable { variable, name, initial_value, trainable }),
            Kind::CreateOptimizer(v1::CreateOptimizer {
                optimizer,
                name: def.name.to_owned(),
                ..Default::default()
            }),
            begin,
            Kind::OpenTape(v1::OpenTape { tape, ..Default::default() }),
            product,
            Kind::ComputeGradient(v1::ComputeGradient {
                tape,
                targets: vec![loss],
                sources: vec![variable],
                outputs: vec![v1::GradientOutput { gradient, indices: 0 }],
                ..Default::default()
            }),
            Kind::ApplyOptimizer(v1::ApplyOptimizer { optimizer, pairs: vec![pair] }),
            Kind::CloseTape(v1::CloseTape { tape }),
            Kind::FinishFunction(finish),
            Kind::RunLoop(v1::RunLoop {
                function: handle,
                steps: choices.int_in_range(0..=6)?,
                arguments: vec![initial_value],
                outputs,
                report_every: choices.int_in_range(0..=2)?,
                ..Default::default()
            }),
        ]);
        self.functions.push(function);
        Ok(())
    }
}

fn choose(choices: &mut Unstructured, fits: impl Fn(&OpDef) -> bool) -> Result<&'static OpDef> {
    let fitting: Vec<&'static OpDef> = ops::ALL.iter().copied().filter(|op| fits(op)).collect();
    choices.choose(&fitting).copied()
}

fn elementwise(choices: &mut Unstructured) -> Result<&'static OpDef> {
    choose(choices, |op| op.family == "math" && op.inputs.len() <= 2 && op.outputs.len() == 1)
}
