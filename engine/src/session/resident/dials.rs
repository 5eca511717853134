//! What moves on by itself from step to step, and what a frame is told of it before each: the numbers of its optimizers' steps,
//! and the states from which random numbers are drawn.

use smallvec::smallvec;

use crate::{
    command::Handle,
    error::Error,
    op::Lanes,
    optimizers::{Counters, Optimizer},
    plan::frame::Frame,
    session::{
        Session, Slot,
        calling::{Advanced, Variant},
        optimizing::number_of,
        tracing::{Moment, Source},
        written::{Given, Numbers},
    },
};

/// What a body reads of its optimizers and generators, as the last step left them.
#[derive(Debug)]
pub(super) struct Dials {
    moments: Vec<Dial>,
    optimizers: Vec<Stepped>,
    generators: Vec<Drawn>,
}

/// An optimizer.
#[derive(Debug)]
struct Stepped {
    handle: Handle,
    optimizer: Optimizer,
    /// How far it was before the last step.
    before: Counters,
}

/// A moment of the body at which an optimizer gives numbers.
#[derive(Debug)]
struct Dial {
    /// Which of the optimizers.
    optimizer: usize,
    /// What it gave when the frame was made.
    given: Given,
    /// The numbers that the frame has, and those of the next step.
    told: Numbers,
    next: Numbers,
    /// Which of the numbers are inputs, and of which slots.
    inputs: Vec<(usize, usize)>,
}

/// A generator that each step draws from.
#[derive(Debug)]
struct Drawn {
    handle: Handle,
    key: i64,
    counter: i64,
    /// The counter before the last step.
    before: i64,
    /// By how much a step moves it on.
    draws: i64,
    /// The slots that states go to, and how many draws after the beginning of a step they are.
    inputs: Vec<(i64, usize)>,
}

impl Dial {
    /// Tells a frame of the numbers that are others than before.
    fn set(&mut self, frame: &mut Frame) -> Result<(), Error> {
        for &(i, slot) in &self.inputs {
            if self.next[i].to_bits() != self.told[i].to_bits() {
                frame.set_number(slot, self.next[i])?;
            }
        }
        std::mem::swap(&mut self.told, &mut self.next);
        Ok(())
    }
}

impl Dials {
    /// The optimizers and generators of a body, without any inputs so far.
    pub(super) fn new(variant: &Variant, advanced: Advanced) -> Self {
        let stepped = |(handle, optimizer): (Handle, Optimizer)| {
            let before = optimizer.counters();
            Stepped { handle, optimizer, before }
        };
        let optimizers: Vec<Stepped> = advanced.optimizers.into_iter().map(stepped).collect();
        let dial = |(moment, given): (&Moment, Given)| {
            let owner = moment.optimizer();
            let optimizer = optimizers.iter().position(|stepped| stepped.handle == owner);
            let told = match &given {
                Given::Step(_, numbers) => numbers.clone(),
                &Given::Number(_, number) => smallvec![number],
                Given::Skip => Numbers::new(),
            };
            let (optimizer, inputs) = (optimizer.unwrap_or(0), Vec::new());
            Dial { optimizer, given, next: told.clone(), told, inputs }
        };
        let moments = variant.moments.iter().zip(advanced.given).map(dial).collect();
        let drawn = |&(handle, draws): &(Handle, i64)| {
            let inputs = Vec::new();
            Drawn { handle, key: 0, counter: 0, before: 0, draws, inputs }
        };
        Self { moments, optimizers, generators: variant.draws.iter().map(drawn).collect() }
    }

    /// Whether nothing moves on.
    pub(super) fn is_empty(&self) -> bool {
        self.moments.is_empty() && self.generators.is_empty()
    }

    /// Lets a slot have a number of an optimizer, or a generator's state. Says whether it changes from step to step; nothing,
    /// if the source is another one.
    pub(super) fn connect(&mut self, source: Source, slot: usize) -> Option<bool> {
        match source {
            Source::Number { moment, index } => {
                let dial = self.moments.get_mut(moment)?;
                dial.inputs.push((index, slot));
                Some(dial.given.changes(index))
            }
            Source::Generator { handle, ahead } => {
                let mut generators = self.generators.iter_mut();
                generators.find(|drawn| drawn.handle == handle)?.inputs.push((ahead, slot));
                Some(true)
            }
            _ => None,
        }
    }

    /// Sets the numbers that never change.
    pub(super) fn begin(&self, frame: &mut Frame) -> Result<(), Error> {
        for dial in &self.moments {
            dial.inputs.iter().try_for_each(|&(i, slot)| frame.set_number(slot, dial.told[i]))?;
        }
        Ok(())
    }

    /// Takes over how far the session is.
    pub(super) fn load(&mut self, session: &Session) -> Result<(), Error> {
        for Stepped { handle, optimizer, .. } in &mut self.optimizers {
            match session.slot(*handle)? {
                Slot::Optimizer(state) => optimizer.clone_from(&state.optimizer),
                other => return Err(other.refuse(*handle, "optimizer")),
            }
        }
        for drawn in &mut self.generators {
            (_, drawn.key, drawn.counter) = session.generator(drawn.handle)?;
        }
        Ok(())
    }

    /// Lets the session be as far.
    pub(super) fn publish(&self, session: &mut Session) -> Result<(), Error> {
        for Stepped { handle, optimizer, .. } in &self.optimizers {
            session.optimizer(*handle)?.optimizer.clone_from(optimizer);
        }
        for drawn in &self.generators {
            session.set_counter(drawn.handle, drawn.counter);
        }
        Ok(())
    }

    /// Tells a frame of the next step, and lets everything move on. `false`, if the step is of another kind.
    pub(super) fn turn(&mut self, moments: &[Moment], frame: &mut Frame) -> Result<bool, Error> {
        for Stepped { optimizer, before, .. } in &mut self.optimizers {
            *before = optimizer.counters();
        }
        for drawn in &mut self.generators {
            drawn.before = drawn.counter;
        }
        for (dial, moment) in self.moments.iter_mut().zip(moments) {
            let optimizer = &mut self.optimizers[dial.optimizer].optimizer;
            dial.next = match (&dial.given, moment) {
                (Given::Step(written, _), Moment::Step { .. }) => {
                    if !written.is_of_form(optimizer) {
                        return Ok(false);
                    }
                    let numbers = written.numbers(optimizer);
                    optimizer.advance();
                    numbers
                }
                (Given::Number(..), Moment::Number { name, .. }) => {
                    let number = number_of(optimizer, name);
                    smallvec![number.ok_or_else(|| Error::bug("an unknown number"))?]
                }
                _ => return Err(Error::bug("a resident loop skips a step")),
            };
        }
        // Only now: the last step's results may be among what is set, and are given if this one is of another kind.
        self.moments.iter_mut().try_for_each(|dial| dial.set(frame))?;
        for Drawn { key, counter, draws, inputs, .. } in &mut self.generators {
            for &(ahead, slot) in &*inputs {
                frame.set_elements(slot, Lanes::I64(&[*key, counter.wrapping_add(ahead)]))?;
            }
            *counter = counter.wrapping_add(*draws);
        }
        Ok(true)
    }

    /// Goes back to where everything was before the last turn.
    pub(super) fn turn_back(&mut self) {
        for Stepped { optimizer, before, .. } in &mut self.optimizers {
            optimizer.rewind(*before);
        }
        for drawn in &mut self.generators {
            drawn.counter = drawn.before;
        }
    }
}
