//! Writes commands that mostly make sense: handles that exist, ops with inputs that fit, functions that are finished and called.
//!
//! Nothing here knows what a session says to a command but whether it succeeded, so that most later ones use what is there.

use std::collections::VecDeque;

use arbitrary::{Result, Unstructured};
use gradtape_engine::{attrs::Attrs, error::Error, op::OpDef, ops, optimizers};
use gradtape_proto::v1::{self, command::Kind};
use gradtape_server::wire::decode;

use crate::values;

/// From so many of the newest things of a kind one is chosen: older ones would seldom fit each other.
const RECENT: usize = 10;

/// A function that was defined.
#[derive(Clone, Debug)]
pub struct Function {
    pub(crate) handle: u64,
    pub(crate) specs: Vec<v1::TensorSpec>,
    pub(crate) results: usize,
}

/// What handles name, as far as the writer knows.
#[derive(Debug, Default)]
pub struct Writer {
    last: u64,
    pub(crate) values: Vec<u64>,
    pub(crate) variables: Vec<u64>,
    pub(crate) tapes: Vec<u64>,
    accumulators: Vec<u64>,
    optimizers: Vec<u64>,
    generators: Vec<u64>,
    placeholders: Vec<u64>,
    pub(crate) functions: Vec<Function>,
    /// Functions whose bodies are being shown, by scope.
    open: Vec<(u32, Function)>,
    /// Commands that belong together, on their way.
    queue: VecDeque<Kind>,
    scope: u32,
}

impl Writer {
    /// Goes on after some commands, whose handles it knows, though not what they name.
    pub fn after(program: &[v1::Command]) -> Self {
        let outputs = program
            .iter()
            .flat_map(|command| decode::rejected(command, Error::UnknownCommand).outputs);
        let values: Vec<_> = outputs.collect();
        let last = values.iter().copied().max().unwrap_or(0);
        let tapes = values.iter().copied().filter(|handle| opens(program, *handle)).collect();
        Self { last, values, tapes, ..Self::default() }
    }

    /// Everything that was named so far, and some more.
    pub fn handles(&self) -> std::ops::RangeInclusive<u64> {
        1..=self.last + 4
    }

    /// The next command; an error if the choices are used up.
    pub fn next(&mut self, choices: &mut Unstructured) -> Result<v1::Command> {
        if choices.is_empty() {
            return Err(arbitrary::Error::NotEnoughData);
        }
        let goes_on = !self.queue.is_empty() && choices.ratio(31, 32)?;
        if !goes_on && choices.ratio(1, 24)? {
            self.scope = choices.int_in_range(0..=1)?;
        }
        let next = if goes_on { self.queue.pop_front() } else { None };
        let kind = match next {
            Some(kind) => kind,
            None => self.kind(choices)?,
        };
        Ok(v1::Command { kind: Some(kind), tag: String::new(), scope: self.scope })
    }

    fn kind(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        if choices.ratio(1, 10)?
            && let Some(at) = self.open.iter().rposition(|(scope, _)| *scope == self.scope)
        {
            return self.finish(choices, at);
        }
        // Without something to begin with, all else would fail.
        match choices.int_in_range(0..=31)? {
            _ if self.values.len() < 3 => self.constant(choices),
            14..=21 if self.variables.is_empty() => self.variable(choices),
            16..=21 if self.tapes.is_empty() => self.tape(choices),
            24 if self.optimizers.is_empty() => self.optimizer(choices),
            28 | 29 if self.functions.is_empty() => self.template(choices),
            0..=2 => self.constant(choices),
            3..=8 => self.op(choices),
            9..=13 => self.sample(choices),
            14 | 15 => self.variable(choices),
            16..=18 => self.tape(choices),
            19 | 20 => self.gradient(choices),
            21 => self.jacobian(choices),
            22 => self.forward(choices),
            23 => self.optimizer(choices),
            24 => self.apply(choices),
            25 => self.generator(choices),
            26 => self.custom(choices),
            27 => self.define(choices),
            28 => self.call(choices),
            29 => self.control(choices),
            30 => self.read(choices),
            _ => self.template(choices),
        }
    }

    // --- handles ---

    /// A new handle; now and then one that is in use.
    pub(crate) fn fresh(&mut self, choices: &mut Unstructured) -> Result<u64> {
        if choices.ratio(1, 48)? {
            return choices.int_in_range(0..=self.last);
        }
        self.last += 1;
        Ok(self.last)
    }

    pub(crate) fn new_value(&mut self, choices: &mut Unstructured) -> Result<u64> {
        let handle = self.fresh(choices)?;
        self.values.push(handle);
        Ok(handle)
    }

    fn new_values(&mut self, choices: &mut Unstructured, count: usize) -> Result<Vec<u64>> {
        (0..count).map(|_| self.new_value(choices)).collect()
    }

    /// One of these; now and then something else.
    fn pick(&self, choices: &mut Unstructured, among: &[u64]) -> Result<u64> {
        if among.is_empty() || choices.ratio(1, 32)? {
            return choices.int_in_range(0..=self.last + 1);
        }
        let from = among.len().saturating_sub(RECENT);
        choices.choose(&among[from..]).copied()
    }

    /// A value or a variable.
    pub(crate) fn value(&self, choices: &mut Unstructured) -> Result<u64> {
        let variable = !self.variables.is_empty() && choices.ratio(1, 4)?;
        self.pick(choices, if variable { &self.variables } else { &self.values })
    }

    fn some(&self, choices: &mut Unstructured, most: usize) -> Result<Vec<u64>> {
        let count = choices.int_in_range(0..=most)?;
        (0..count).map(|_| self.value(choices)).collect()
    }

    pub(crate) fn queue(&mut self, kinds: impl IntoIterator<Item = Kind>) {
        self.queue.extend(kinds);
    }

    /// What was queued first.
    pub(crate) fn dequeue(&mut self) -> Kind {
        self.queue.pop_front().unwrap_or(Kind::Sync(v1::Sync::default()))
    }

    // --- values ---

    fn constant(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let spec = values::spec(choices)?;
        self.constant_of(choices, spec)
    }

    pub(crate) fn constant_of(
        &mut self,
        choices: &mut Unstructured,
        spec: v1::TensorSpec,
    ) -> Result<Kind> {
        let source = v1::constant::Source::Tensor(values::tensor(choices, spec)?);
        Ok(Kind::Constant(v1::Constant { output: self.new_value(choices)?, source: Some(source) }))
    }

    fn op(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let op = *choices.choose(ops::ALL.as_slice())?;
        let more = if op.variadic { choices.int_in_range(0..=2)? } else { 0 };
        let count = op.inputs.len() + more - usize::from(op.variadic);
        let inputs = (0..count).map(|_| self.value(choices)).collect::<Result<_>>()?;
        let attributes = values::attributes(choices, op.attrs)?;
        self.apply_op(choices, op, inputs, attributes)
    }

    pub(crate) fn apply_op(
        &mut self,
        choices: &mut Unstructured,
        op: &OpDef,
        inputs: Vec<u64>,
        attributes: Vec<v1::Attribute>,
    ) -> Result<Kind> {
        let count = op.count.map_or(op.outputs.len(), |_| 2);
        let outputs = self.new_values(choices, count)?;
        Ok(Kind::Op(v1::Op { name: op.name.to_owned(), inputs, outputs, attributes }))
    }

    /// An op on what its record has as a sample.
    fn sample(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let op = *choices.choose(ops::ALL.as_slice())?;
        if op.samples.is_empty() {
            return self.op(choices);
        }
        let sample = choices.choose(op.samples)?;
        let float =
            if choices.ratio(1, 4)? { v1::DataType::Float64 } else { v1::DataType::Float32 };
        let mut inputs = Vec::new();
        for input in sample.inputs {
            let source = v1::constant::Source::Tensor(values::sampled(choices, input, float)?);
            let output = self.new_value(choices)?;
            self.queue([Kind::Constant(v1::Constant { output, source: Some(source) })]);
            inputs.push(output);
        }
        if let Some(&tape) = self.tapes.last()
            && choices.ratio(1, 2)?
        {
            self.queue([Kind::WatchTape(v1::WatchTape { tape, values: inputs.clone() })]);
        }
        let given = (sample.attrs)();
        let named = given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let count = Attrs::check(op.attrs, named).map_or(1, |attrs| op.output_count(&attrs));
        let attributes =
            given.into_iter().filter_map(|(name, value)| values::attribute(name, value)).collect();
        let outputs = self.new_values(choices, count)?;
        self.queue([Kind::Op(v1::Op { name: op.name.to_owned(), inputs, outputs, attributes })]);
        Ok(self.dequeue())
    }

    fn variable(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let mode = choices.int_in_range(0..=4)?;
        let none = self.variables.is_empty();
        Ok(match choices.int_in_range(0..=7)? {
            which if which < 3 || none => {
                let variable = self.fresh(choices)?;
                let initial_value = self.value(choices)?;
                self.variables.push(variable);
                let trainable = choices.arbitrary()?;
                let name = (*choices.choose(&["", "w", "b", "w/1", "optimizer.x"])?).to_owned();
                Kind::CreateVariable(v1::CreateVariable {
                    variable,
                    name,
                    initial_value,
                    trainable,
                })
            }
            3 => Kind::ReadVariable(v1::ReadVariable {
                variable: self.pick(choices, &self.variables)?,
                output: self.new_value(choices)?,
            }),
            4 | 5 => Kind::AssignVariable(v1::AssignVariable {
                variable: self.pick(choices, &self.variables)?,
                value: self.value(choices)?,
                mode,
            }),
            _ => Kind::ScatterVariable(v1::ScatterVariable {
                variable: self.pick(choices, &self.variables)?,
                indices: self.value(choices)?,
                updates: self.value(choices)?,
                mode,
            }),
        })
    }

    fn read(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        Ok(match choices.int_in_range(0..=7)? {
            0..=2 => Kind::Fetch(v1::Fetch { value: self.value(choices)? }),
            3 => Kind::Describe(v1::Describe { value: self.value(choices)? }),
            4 => Kind::Sync(v1::Sync { level: choices.int_in_range(0..=4)?, timeout_ms: 0 }),
            _ => {
                let mut handles = self.some(choices, 3)?;
                if choices.ratio(1, 4)? {
                    handles.push(choices.int_in_range(0..=self.last)?);
                }
                self.values.retain(|handle| !handles.contains(handle));
                Kind::Release(v1::Release { handles })
            }
        })
    }

    // --- derivatives ---

    fn tape(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let tape = self.pick(choices, &self.tapes)?;
        let none = self.tapes.is_empty();
        Ok(match choices.int_in_range(0..=15)? {
            which if which < 5 || none => {
                let tape = self.fresh(choices)?;
                self.tapes.push(tape);
                Kind::OpenTape(v1::OpenTape {
                    tape,
                    persistent: choices.ratio(3, 4)?,
                    watch_accessed_variables: choices.arbitrary()?,
                    paused: choices.ratio(1, 8)?,
                })
            }
            5..=10 => Kind::WatchTape(v1::WatchTape { tape, values: self.some(choices, 3)? }),
            11 => Kind::StopTape(v1::StopTape { tape, require_recording: choices.arbitrary()? }),
            12 => Kind::ResumeTape(v1::ResumeTape { tape }),
            13 => Kind::ResetTape(v1::ResetTape { tape }),
            14 => Kind::ListWatchedVariables(v1::ListWatchedVariables { tape }),
            _ => {
                self.tapes.retain(|one| *one != tape);
                Kind::CloseTape(v1::CloseTape { tape })
            }
        })
    }

    fn gradient(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let tape = self.pick(choices, &self.tapes)?;
        let (targets, sources) = (self.some(choices, 2)?, self.some(choices, 3)?);
        let mut outputs = Vec::new();
        for _ in 0..sources.len() {
            let sparse = choices.ratio(1, 6)?;
            let indices = if sparse { self.new_value(choices)? } else { 0 };
            outputs.push(v1::GradientOutput { gradient: self.new_value(choices)?, indices });
        }
        let seeded = choices.ratio(1, 6)?;
        let output_gradients = if seeded { self.some(choices, 2)? } else { Vec::new() };
        let unconnected_gradients = choices.int_in_range(0..=3)?;
        let expected_kinds = if choices.ratio(1, 6)? { vec![1; sources.len()] } else { vec![] };
        Ok(Kind::ComputeGradient(v1::ComputeGradient {
            tape,
            targets,
            sources,
            outputs,
            output_gradients,
            unconnected_gradients,
            expected_kinds,
        }))
    }

    fn jacobian(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let (tape, target) = (self.pick(choices, &self.tapes)?, self.value(choices)?);
        let source = self.value(choices)?;
        Ok(match choices.int_in_range(0..=2)? {
            0 => Kind::ComputeJacobian(v1::ComputeJacobian {
                tape,
                target,
                sources: vec![source],
                outputs: vec![self.new_value(choices)?],
                unconnected_gradients: choices.int_in_range(0..=2)?,
            }),
            1 => Kind::ComputeBatchJacobian(v1::ComputeBatchJacobian {
                tape,
                target,
                source,
                output: self.new_value(choices)?,
            }),
            _ => Kind::Explain(v1::Explain { tape, target, source }),
        })
    }

    fn forward(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        if choices.ratio(1, 2)? {
            let accumulator = self.fresh(choices)?;
            self.accumulators.push(accumulator);
            let primals = self.some(choices, 2)?;
            let tangents = primals.clone();
            let paused = choices.ratio(1, 8)?;
            let open = v1::OpenAccumulator { accumulator, primals, tangents, paused };
            return Ok(Kind::OpenAccumulator(open));
        }
        let accumulator = self.pick(choices, &self.accumulators)?;
        if choices.ratio(1, 4)? {
            return Ok(Kind::StopTape(v1::StopTape {
                tape: accumulator,
                require_recording: false,
            }));
        }
        let values = self.some(choices, 2)?;
        let outputs = self.new_values(choices, values.len())?;
        let unconnected_gradients = choices.int_in_range(0..=2)?;
        let read = v1::ReadTangent { accumulator, values, outputs, unconnected_gradients };
        Ok(Kind::ReadTangent(read))
    }

    fn custom(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        if choices.ratio(1, 2)? {
            let like = self.some(choices, 2)?;
            let outputs = self.new_values(choices, like.len())?;
            self.placeholders.extend(&outputs);
            let placeholders = v1::CreatePlaceholders { like, outputs };
            return Ok(Kind::CreatePlaceholders(placeholders));
        }
        let (inputs, results) = (self.some(choices, 2)?, self.some(choices, 2)?);
        let outputs = self.new_values(choices, results.len())?;
        let upstream = (0..results.len()).map(|_| self.pick(choices, &self.placeholders));
        let upstream = upstream.collect::<Result<_>>()?;
        let gradients = (0..inputs.len()).map(|_| self.value(choices)).collect::<Result<_>>()?;
        let custom = v1::RecordCustomGradient { inputs, results, outputs, upstream, gradients };
        Ok(Kind::RecordCustomGradient(custom))
    }

    // --- optimizers and generators ---

    fn optimizer(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let def = *choices.choose(optimizers::ALL)?;
        let schedule = *choices.choose(optimizers::schedules::ALL)?;
        let specs = if choices.ratio(3, 4)? { def.attrs } else { optimizers::Common::SPECS };
        let hyperparameters = values::attributes(choices, specs)?;
        let learning_rate_schedule = if choices.ratio(1, 4)? {
            let attributes = values::attributes(choices, schedule.attrs)?;
            Some(v1::LearningRateSchedule { name: schedule.name.to_owned(), attributes })
        } else {
            None
        };
        if !self.optimizers.is_empty() && choices.ratio(1, 4)? {
            let optimizer = self.pick(choices, &self.optimizers)?;
            let set = v1::SetOptimizer { optimizer, hyperparameters, learning_rate_schedule };
            return Ok(Kind::SetOptimizer(set));
        }
        let optimizer = self.fresh(choices)?;
        self.optimizers.push(optimizer);
        let name = def.name.to_owned();
        Ok(Kind::CreateOptimizer(v1::CreateOptimizer {
            optimizer,
            name,
            hyperparameters,
            learning_rate_schedule,
        }))
    }

    fn apply(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let optimizer = self.pick(choices, &self.optimizers)?;
        if choices.ratio(1, 6)? {
            let slots = ["iterations", "learning_rate", "momentum", "velocity", "loss_scale", "m"];
            return Ok(Kind::ReadOptimizer(v1::ReadOptimizer {
                optimizer,
                name: (*choices.choose(&slots)?).to_owned(),
                variable: if choices.arbitrary()? {
                    self.pick(choices, &self.variables)?
                } else {
                    0
                },
                output: self.new_value(choices)?,
            }));
        }
        let count = choices.int_in_range(0..=2)?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            let variable = self.pick(choices, &self.variables)?;
            // Its own value has the right shape.
            let gradient = if choices.ratio(1, 2)? { variable } else { self.value(choices)? };
            let indices = if choices.ratio(1, 8)? { self.value(choices)? } else { 0 };
            pairs.push(v1::GradientPair {
                variable,
                gradient,
                indices,
                exclude_from_weight_decay: choices.arbitrary()?,
                exclude_from_orthogonalization: choices.arbitrary()?,
            });
        }
        Ok(Kind::ApplyOptimizer(v1::ApplyOptimizer { optimizer, pairs }))
    }

    fn generator(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        if self.generators.is_empty() || choices.ratio(1, 3)? {
            let generator = self.fresh(choices)?;
            self.generators.push(generator);
            let seed = values::integer(choices)?;
            return Ok(Kind::CreateGenerator(v1::CreateGenerator { generator, seed }));
        }
        Ok(Kind::NextGeneratorState(v1::NextGeneratorState {
            generator: self.pick(choices, &self.generators)?,
            output: self.new_value(choices)?,
            draws: values::integer(choices)?.saturating_abs(),
        }))
    }

    // --- functions ---

    fn define(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let count = choices.int_in_range(0..=2)?;
        let specs = (0..count).map(|_| values::spec(choices)).collect::<Result<_>>()?;
        let (kind, function) = self.begin(choices, specs)?;
        self.open.push((self.scope, function));
        Ok(kind)
    }

    /// The beginning of a function, whose parameters are the newest values.
    pub(crate) fn begin(
        &mut self,
        choices: &mut Unstructured,
        specs: Vec<v1::TensorSpec>,
    ) -> Result<(Kind, Function)> {
        let function = self.fresh(choices)?;
        let parameters = self.new_values(choices, specs.len())?;
        let known = Function { handle: function, specs: specs.clone(), results: 0 };
        Ok((Kind::DefineFunction(v1::DefineFunction { function, parameters, specs }), known))
    }

    fn finish(&mut self, choices: &mut Unstructured, at: usize) -> Result<Kind> {
        let (_, mut function) = self.open.remove(at);
        let results = self.some(choices, 3)?;
        let abandon = choices.ratio(1, 12)?;
        function.results = results.len();
        let handle = function.handle;
        self.functions.push(function);
        Ok(Kind::FinishFunction(v1::FinishFunction { function: handle, results, abandon }))
    }

    fn function(&self, choices: &mut Unstructured) -> Result<Function> {
        if self.functions.is_empty() || choices.ratio(1, 32)? {
            let handle = choices.int_in_range(0..=self.last)?;
            return Ok(Function { handle, specs: Vec::new(), results: 1 });
        }
        let from = self.functions.len().saturating_sub(RECENT);
        choices.choose(&self.functions[from..]).cloned()
    }

    /// Arguments for parameters: constants that are queued, or whatever there is.
    fn arguments(&mut self, choices: &mut Unstructured, function: &Function) -> Result<Vec<u64>> {
        let mut arguments = Vec::new();
        for spec in &function.specs {
            if choices.ratio(1, 4)? {
                arguments.push(self.value(choices)?);
                continue;
            }
            let constant = self.constant_of(choices, spec.clone())?;
            arguments.extend(self.values.last());
            self.queue([constant]);
        }
        Ok(arguments)
    }

    fn call(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let function = self.function(choices)?;
        if choices.ratio(1, 8)? {
            return Ok(Kind::ExplainFunction(v1::ExplainFunction { function: function.handle }));
        }
        let arguments = self.arguments(choices, &function)?;
        let outputs = self.new_values(choices, function.results)?;
        let shown = choices.ratio(1, 12)?;
        let (parameters, results) = if shown {
            (self.placeholders.clone(), self.some(choices, 2)?)
        } else {
            (Vec::new(), Vec::new())
        };
        let function = if shown { 0 } else { function.handle };
        let call = v1::CallFunction { function, parameters, results, arguments, outputs };
        self.queue([Kind::CallFunction(call)]);
        Ok(self.dequeue())
    }

    fn control(&mut self, choices: &mut Unstructured) -> Result<Kind> {
        let (one, other) = (self.function(choices)?, self.function(choices)?);
        let arguments = self.arguments(choices, &one)?;
        let outputs = self.new_values(choices, one.results)?;
        let carried = choices.int_in_range(0..=arguments.len())?;
        let kind = match choices.int_in_range(0..=3)? {
            0 => Kind::Branch(v1::Branch {
                index: self.value(choices)?,
                functions: vec![one.handle, other.handle],
                arguments,
                outputs,
            }),
            1 => Kind::WhileLoop(v1::WhileLoop {
                condition: other.handle,
                body: one.handle,
                carried: arguments,
                maximum_iterations: Some(choices.int_in_range(0..=9)?),
                outputs,
            }),
            2 => Kind::Scan(v1::Scan {
                body: one.handle,
                carried: arguments[..carried].to_vec(),
                stacks: arguments[carried..].to_vec(),
                length: choices.int_in_range(0..=4)?,
                reverse: choices.arbitrary()?,
                outputs,
            }),
            _ => {
                let datasets = choices.int_in_range(0..=1)?.min(arguments.len());
                Kind::RunLoop(v1::RunLoop {
                    function: one.handle,
                    steps: choices.int_in_range(-1..=9)?,
                    datasets: arguments[..datasets].to_vec(),
                    batch_size: choices.int_in_range(-1..=3)?,
                    shuffle_seed: choices.arbitrary()?,
                    carried: u32::try_from(carried.min(arguments.len() - datasets)).unwrap_or(0),
                    arguments: arguments[datasets..].to_vec(),
                    outputs,
                    report_every: choices.int_in_range(-1..=4)?,
                    stream_reports: choices.arbitrary()?,
                    while_result: choices.ratio(1, 4)?.then_some(0),
                })
            }
        };
        self.queue([kind]);
        Ok(self.dequeue())
    }
}

/// Whether a handle names a tape.
fn opens(program: &[v1::Command], handle: u64) -> bool {
    let opens = |command: &v1::Command| matches!(&command.kind, Some(Kind::OpenTape(m)) if m.tape == handle);
    program.iter().any(opens)
}
