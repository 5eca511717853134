//! Control flow that the server takes: branches, loops and scans over functions.
//!
//! The functions may be defined anywhere, also within the body of another one, and may use values and variables of outside.
//! Tapes hear of control flow as of one op, and its gradient is control flow again.

use std::{panic::Location, sync::Arc};

use gradtape_proto::v1::{self as proto, command::Kind};

use crate::{Function, Session, Tensor, core::Core};

impl Session {
    /// Calls one function if a truth value holds and another if not; both give results of the same dtypes and shapes.
    ///
    /// ```no_run
    /// # use gradtape_client::{DType, Session, Spec};
    /// # async fn example(session: Session) -> Result<(), gradtape_client::Error> {
    /// let spec = || [Spec { dtype: DType::F32, shape: vec![] }];
    /// let half = session.function(spec(), |x| vec![&x[0] * 0.5]);
    /// let odd = session.function(spec(), |x| vec![&x[0] * 3.0 + 1.0]);
    /// let x = session.constant(7.0f32);
    /// let next = session.cond(&x.greater(8.0), &half, &odd, [&x]).remove(0);
    /// assert_eq!(next.scalar::<f32>().await?, 22.0);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn cond<A: AsRef<Tensor>>(
        &self,
        predicate: impl AsRef<Tensor>,
        if_true: &Function,
        if_false: &Function,
        arguments: impl IntoIterator<Item = A>,
    ) -> Vec<Tensor> {
        self.branch(Location::caller(), predicate.as_ref(), &[if_false, if_true], arguments)
    }

    /// Calls the function of a number; the last, if there is no such.
    #[track_caller]
    pub fn switch<A: AsRef<Tensor>>(
        &self,
        index: impl AsRef<Tensor>,
        functions: &[&Function],
        arguments: impl IntoIterator<Item = A>,
    ) -> Vec<Tensor> {
        self.branch(Location::caller(), index.as_ref(), functions, arguments)
    }

    fn branch<A: AsRef<Tensor>>(
        &self,
        caller: &'static Location<'static>,
        index: &Tensor,
        functions: &[&Function],
        arguments: impl IntoIterator<Item = A>,
    ) -> Vec<Tensor> {
        let core = self.core();
        let branch = proto::Branch {
            index: index.id_in(core),
            functions: functions.iter().map(|function| function.id()).collect(),
            arguments: ids(core, arguments),
            outputs: vec![],
        };
        let Some(first) = functions.first() else { return vec![] };
        self.flow(caller, first, |outputs| Kind::Branch(proto::Branch { outputs, ..branch }))
    }

    /// Calls a function on its own results for as long as another gives true. Without `maximum_iterations` the loop has no
    /// gradient.
    #[track_caller]
    pub fn while_loop<A: AsRef<Tensor>>(
        &self,
        condition: &Function,
        body: &Function,
        carried: impl IntoIterator<Item = A>,
        maximum_iterations: Option<u32>,
    ) -> Vec<Tensor> {
        let run = proto::WhileLoop {
            condition: condition.id(),
            body: body.id(),
            carried: ids(self.core(), carried),
            outputs: vec![],
            maximum_iterations,
        };
        let kind = |outputs| Kind::WhileLoop(proto::WhileLoop { outputs, ..run });
        self.flow(Location::caller(), body, kind)
    }

    /// Calls a function with what is carried and a slice of each of some values, slice after slice. Gives what the last call
    /// carries on, and then the other results, stacked.
    #[track_caller]
    pub fn scan<A: AsRef<Tensor>, B: AsRef<Tensor>>(
        &self,
        body: &Function,
        carried: impl IntoIterator<Item = A>,
        stacks: impl IntoIterator<Item = B>,
        options: Scan,
    ) -> Vec<Tensor> {
        let Scan { length, reverse } = options;
        let run = proto::Scan {
            body: body.id(),
            carried: ids(self.core(), carried),
            stacks: ids(self.core(), stacks),
            length,
            reverse,
            outputs: vec![],
        };
        self.flow(Location::caller(), body, |outputs| Kind::Scan(proto::Scan { outputs, ..run }))
    }

    /// Sends a command whose results are those of a function.
    fn flow(
        &self,
        caller: &'static Location<'static>,
        function: &Function,
        kind: impl FnOnce(Vec<u64>) -> Kind,
    ) -> Vec<Tensor> {
        let outputs = self.record(caller, |recorder| {
            let outputs: Vec<u64> = function.results().map(|_| recorder.handle()).collect();
            recorder.push(kind(outputs.clone()));
            outputs
        });
        outputs.iter().zip(function.results()).map(|(&id, dtype)| self.tensor(id, dtype)).collect()
    }
}

/// How a scan goes.
#[derive(Debug, Clone, Copy)]
pub struct Scan {
    /// How many slices there are.
    pub length: u32,
    /// Whether the last slice comes first.
    pub reverse: bool,
}

impl Scan {
    /// From the first of so many slices to the last.
    pub fn over(length: u32) -> Self {
        Self { length, reverse: false }
    }
}

fn ids<A: AsRef<Tensor>>(core: &Arc<Core>, tensors: impl IntoIterator<Item = A>) -> Vec<u64> {
    tensors.into_iter().map(|tensor| tensor.as_ref().id_in(core)).collect()
}
