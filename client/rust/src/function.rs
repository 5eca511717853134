//! Gradients of the program's own, functions that are computed again instead of kept, and explanations.
//!
//! What a closure applies to placeholders is not computed but shown to the server, which keeps it as a program. A
//! placeholder has a dtype and a shape and no elements.

use std::{fmt, panic::Location};

use gradtape_proto::v1::{self as proto, command::Kind};

use crate::{AbsentReason, Session, Tensor, data::Spec};

impl Session {
    /// Gives results that were computed from inputs a gradient of their own.
    ///
    /// `backward` is called at once, with a placeholder for what flows into each result, and returns what flows into
    /// each input; None for nothing. Outer tapes record it, so it can be differentiated again.
    ///
    /// ```
    /// # async fn example(session: &gradtape_client::Session) -> gradtape_client::Result<()> {
    /// // A rounding that gradients pass as if it were not there.
    /// let x = session.constant(2.6_f32);
    /// let tape = session.tape();
    /// tape.watch([&x]);
    /// let y = session.custom_gradient([&x], [&x.round()], |dy| vec![Some(dy[0].clone())]).remove(0);
    /// assert_eq!(tape.derivative(&y, &x).scalar::<f32>().await?, 1.0);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn custom_gradient<I: AsRef<Tensor>, R: AsRef<Tensor>>(
        &self,
        inputs: impl IntoIterator<Item = I>,
        results: impl IntoIterator<Item = R>,
        backward: impl FnOnce(&[Tensor]) -> Vec<Option<Tensor>>,
    ) -> Vec<Tensor> {
        let caller = Location::caller();
        let (inputs, results): (Vec<I>, Vec<R>) =
            (inputs.into_iter().collect(), results.into_iter().collect());
        let upstream = self.placeholders(caller, &results);
        let gradients = backward(&upstream);
        let id = |tensor: &Tensor| tensor.id_in(self.core());
        let outputs = self.record(caller, |recorder| {
            let outputs: Vec<u64> = results.iter().map(|_| recorder.handle()).collect();
            recorder.push(Kind::RecordCustomGradient(proto::RecordCustomGradient {
                inputs: inputs.iter().map(|input| id(input.as_ref())).collect(),
                results: results.iter().map(|result| id(result.as_ref())).collect(),
                outputs: outputs.clone(),
                upstream: upstream.iter().map(id).collect(),
                gradients: gradients.iter().map(|one| one.as_ref().map_or(0, id)).collect(),
            }));
            outputs
        });
        self.tensors_like(&outputs, &results)
    }

    /// Calls a function of which tapes keep nothing but what goes into it: they compute the rest again for the gradient.
    ///
    /// `function` is called at once, with placeholders. Variables and random numbers are those of the first time.
    #[track_caller]
    pub fn recomputed<A: AsRef<Tensor>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        function: impl FnOnce(&[Tensor]) -> Vec<Tensor>,
    ) -> Vec<Tensor> {
        let caller = Location::caller();
        let arguments: Vec<A> = arguments.into_iter().collect();
        let parameters = self.placeholders(caller, &arguments);
        let results = function(&parameters);
        let id = |tensor: &Tensor| tensor.id_in(self.core());
        let outputs = self.record(caller, |recorder| {
            let outputs: Vec<u64> = results.iter().map(|_| recorder.handle()).collect();
            recorder.push(Kind::CallFunction(proto::CallFunction {
                parameters: parameters.iter().map(id).collect(),
                results: results.iter().map(id).collect(),
                arguments: arguments.iter().map(|argument| id(argument.as_ref())).collect(),
                outputs: outputs.clone(),
                function: 0,
            }));
            outputs
        });
        self.tensors_like(&outputs, &results)
    }

    fn placeholders<T: AsRef<Tensor>>(
        &self,
        caller: &'static Location<'static>,
        like: &[T],
    ) -> Vec<Tensor> {
        let outputs = self.record(caller, |recorder| {
            let outputs: Vec<u64> = like.iter().map(|_| recorder.handle()).collect();
            recorder.push(Kind::CreatePlaceholders(proto::CreatePlaceholders {
                like: like.iter().map(|value| value.as_ref().id_in(self.core())).collect(),
                outputs: outputs.clone(),
            }));
            outputs
        });
        self.tensors_like(&outputs, like)
    }

    fn tensors_like<T: AsRef<Tensor>>(&self, ids: &[u64], like: &[T]) -> Vec<Tensor> {
        let pairs = ids.iter().zip(like);
        pairs.map(|(&id, value)| self.tensor(id, value.as_ref().dtype())).collect()
    }
}

/// One op on the way of a gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Hop {
    /// Its name.
    pub op: String,
    /// What it made.
    pub output: Spec,
    /// The place in the program that called it.
    pub tag: String,
}

/// Why a target has a gradient with respect to a source, or why it has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Why there is none, if there is none.
    pub reason: Option<AbsentReason>,
    /// The ops from the source to the target, or to the one where the gradient ends.
    pub path: Vec<Hop>,
    /// How many in the middle are left out.
    pub elided: u64,
}

impl Explanation {
    pub(crate) fn from_proto(reply: proto::ExplainReply) -> crate::Result<Self> {
        let reason = reply.absent_reason();
        let present = reason == proto::AbsentReason::Unspecified;
        let reason = (!present).then(|| reason.into());
        let hop = |hop: proto::Hop| {
            let output = Spec::try_from(hop.output.unwrap_or_default())?;
            Ok(Hop { op: hop.op, output, tag: hop.tag })
        };
        let path = reply.path.into_iter().map(hop).collect::<crate::Result<_>>()?;
        Ok(Self { reason, path, elided: reply.elided })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            None => f.write_str("there is a gradient")?,
            Some(reason) => write!(f, "there is no gradient: {reason:?}")?,
        }
        for hop in &self.path {
            write!(f, "\n  {} -> {:?}{:?}", hop.op, hop.output.dtype, hop.output.shape)?;
            if !hop.tag.is_empty() {
                write!(f, "  at {}", hop.tag)?;
            }
        }
        Ok(())
    }
}
