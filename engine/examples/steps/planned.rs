//! A training step as one plan: forward, gradient and optimizer, written down once and run again and again.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use gradtape_engine::{
    array::{Array, Tensor},
    attrs::{Attr, Attrs},
    command::Handle,
    exec,
    gradient::{Found, Gradient, Source, Target, gradient},
    graph::{Application, Graph, Operand, ValueId, Var},
    ledger::Ledger,
    optimizers::{Member, Optimizer},
    plan::{Passes, Plan},
    tape::{Applied, Tape},
};

use crate::{Client, find, floats, models::Step};

/// A plan of a step, and the values that it changes.
pub(crate) struct Planned {
    ledger: Arc<Ledger>,
    plan: Plan,
    /// Slots of the variables and of their optimizer's state.
    slots: Vec<usize>,
    values: Vec<Tensor>,
}

impl Planned {
    /// Writes down one step of a model.
    pub(crate) fn new(build: fn(&mut dyn Client) -> Step) -> Self {
        let mut writer = Writer::new();
        let mut step = build(&mut writer);
        step(&mut writer);
        writer.planned.expect("a step that trains")
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn run(&mut self) {
        let given = self.slots.iter().copied().zip(self.values.drain(..)).collect::<Vec<_>>();
        self.values = self.plan.run(&self.ledger, given).expect("a step");
    }

    /// The same, and adds what each step of the plan took to the times of that step.
    pub(crate) fn run_watched(&mut self, times: &mut [Vec<Duration>]) {
        let given = self.slots.iter().copied().zip(self.values.drain(..)).collect::<Vec<_>>();
        let mut start = Instant::now();
        let done = |i: usize| {
            let now = Instant::now();
            times[i].push(now - start);
            start = now;
        };
        self.values = self.plan.run_watched(&self.ledger, given, done).expect("a step");
    }
}

/// Runs ops one by one, records them on a tape and remembers them.
struct Writer {
    ledger: Arc<Ledger>,
    tape: Tape,
    values: HashMap<Handle, Tensor>,
    next: Handle,
    variables: Vec<Handle>,
    optimizer: Optimizer,
    ran: Vec<(Application, Vec<Handle>, Vec<Handle>)>,
    planned: Option<Planned>,
}

impl Writer {
    fn new() -> Self {
        let mut tape = Tape::new(true, true, 0);
        tape.resume(0, 1).expect("a tape starts");
        Self {
            ledger: Ledger::new("steps", 8 << 30),
            tape,
            values: HashMap::new(),
            next: 0,
            variables: vec![],
            optimizer: Optimizer::new("sgd", vec![], None).expect("an optimizer"),
            ran: vec![],
            planned: None,
        }
    }

    fn bind(&mut self, tensor: Tensor) -> Handle {
        self.next += 1;
        self.values.insert(self.next, tensor);
        self.next
    }

    fn run(&mut self, application: Application, inputs: Vec<Handle>) -> Vec<Handle> {
        let tensors: Vec<Tensor> = inputs.iter().map(|input| self.values[input].clone()).collect();
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        let results = exec::run(&self.ledger, application.op, &application.attrs, &tensors);
        let results = results.expect("an op");
        let outputs: Vec<Handle> = results.into_iter().map(|tensor| self.bind(tensor)).collect();
        let pair = |handle: &Handle| (ValueId(*handle), &self.values[handle]);
        let applied = Applied::Op(application.op, application.attrs.clone());
        let (read, made): (Vec<_>, Vec<_>) =
            (inputs.iter().map(pair).collect(), outputs.iter().map(pair).collect());
        self.tape.trace_mut().record((&applied, &Arc::from("")), &read, &made, true);
        self.ran.push((application, inputs, outputs.clone()));
        outputs
    }

    /// Writes forward pass, gradient and optimizer step into one program.
    fn plan(&mut self, loss: Handle) -> Planned {
        let (target, sources) = (self.target(loss), self.sources());
        let Gradient { program: backward, found, .. } =
            gradient(self.tape.trace(), &[target], &sources).expect("a gradient");
        let (graph, sheet) = (Graph::default(), self.optimizer.sheet());
        let mut known: HashMap<Handle, Var> = HashMap::new();
        let (mut slots, mut values, mut wanted) = (vec![], vec![], vec![]);
        for (handle, tensor) in &self.values {
            let is_variable = self.variables.contains(handle);
            let made = self.ran.iter().any(|(_, _, outputs)| outputs.contains(handle));
            if !made {
                let tensor = (!is_variable).then(|| tensor.clone());
                let aval = self.values[handle].aval();
                known.insert(*handle, graph.operand(aval, Operand { id: ValueId(0), tensor }));
            }
        }
        for (application, inputs, outputs) in &self.ran {
            let inputs: Vec<Var> = inputs.iter().map(|input| known[input]).collect();
            let results = graph.apply(application.op, application.attrs.clone(), &inputs);
            known.extend(outputs.iter().copied().zip(results.expect("an op")));
        }
        let mut written: HashMap<usize, Var> =
            backward.operands.iter().map(|(slot, operand)| (*slot, known[&operand.id.0])).collect();
        for application in &backward.applications {
            let inputs: Vec<Var> = application.inputs.iter().map(|input| written[input]).collect();
            let results = graph.apply(application.op, application.attrs.clone(), &inputs);
            written.extend(application.outputs.iter().copied().zip(results.expect("an op")));
        }
        self.optimizer.advance();
        let members = self.variables.iter().zip(&found).map(|(variable, found)| {
            let Found::Dense(slot) = found else { panic!("a dense gradient") };
            let theta = known[variable];
            slots.push(theta.slot());
            values.push(self.values[variable].clone());
            let kept = self.optimizer.slots(&theta.aval(), false);
            let state = kept.iter().map(|slot| {
                let aval = slot.aval(&theta.aval());
                values.push(Tensor::unpaid(floats(&aval.shape, 0.0)));
                let var = graph.operand(aval, Operand { id: ValueId(0), tensor: None });
                slots.push(var.slot());
                Some(var)
            });
            let state = state.collect();
            let gradient = written[slot];
            Member { theta, gradient, state, keeps_weight: false, plain: false }
        });
        let members: Vec<Member> = members.collect();
        for (theta, state) in self.optimizer.step(&graph, &sheet, &members) {
            wanted.extend(std::iter::once(theta).chain(state).map(Var::slot));
        }
        drop((members, known, written));
        let program = graph.finish().expect("a program");
        let plan = Plan::compile(&self.ledger, &program, &wanted, Passes::ALL).expect("a plan");
        Planned { ledger: Arc::clone(&self.ledger), plan, slots, values }
    }

    fn target(&self, loss: Handle) -> Target {
        Target { id: ValueId(loss), aval: self.values[&loss].aval(), seed: None }
    }

    fn sources(&self) -> Vec<Source> {
        let source = |&variable: &Handle| Source {
            id: ValueId(variable),
            aval: self.values[&variable].aval(),
            sparse: false,
        };
        self.variables.iter().map(source).collect()
    }
}

impl Client for Writer {
    fn constant(&mut self, array: Array) -> Handle {
        self.bind(Tensor::unpaid(array))
    }

    fn variable(&mut self, shape: &[usize], scale: f32) -> Handle {
        let variable = self.floats(shape, scale);
        self.tape.watch(ValueId(variable), &self.values[&variable].aval()).expect("a watch");
        self.variables.push(variable);
        variable
    }

    fn optimizer(&mut self, name: &str) {
        let given = vec![("learning_rate".to_owned(), Attr::Double(0.001))];
        self.optimizer = Optimizer::new(name, given, None).expect("an optimizer");
    }

    fn open(&mut self) -> Handle {
        0
    }

    fn ops(
        &mut self,
        name: &str,
        inputs: &[Handle],
        attrs: Vec<(&str, Attr)>,
        count: usize,
    ) -> Vec<Handle> {
        let (op, attrs): (_, Attrs) = find(name, attrs);
        let graph = Graph::default();
        // Composites become what they stand for.
        let (operands, wanted) = {
            let vars: Vec<Var> = inputs
                .iter()
                .map(|input| {
                    let operand = Operand { id: ValueId(*input), tensor: None };
                    graph.operand(self.values[input].aval(), operand)
                })
                .collect();
            let outputs = graph.apply(op, attrs, &vars).expect("an op");
            let wanted: Vec<usize> = outputs.iter().take(count).map(|var| var.slot()).collect();
            (vars.iter().map(|var| var.slot()).collect::<Vec<_>>(), wanted)
        };
        let program = graph.finish().expect("a program");
        let mut handles: HashMap<usize, Handle> =
            operands.into_iter().zip(inputs.iter().copied()).collect();
        for application in program.applications {
            let read = application.inputs.iter().map(|slot| handles[slot]).collect();
            let slots = application.outputs.clone();
            let outputs = self.run(application, read);
            handles.extend(slots.into_iter().zip(outputs));
        }
        wanted.iter().map(|slot| handles[slot]).collect()
    }

    fn train(&mut self, _: Handle, loss: Handle) {
        self.planned = Some(self.plan(loss));
    }
}
