//! Values of a session.

use std::{fmt, panic::Location, sync::Arc};

use gradtape_proto::v1::{self as proto, command::Kind, reply};

use crate::{
    Attribute, DType, Element, Result, Session, Spec, TensorData,
    core::{Core, Handle, unexpected},
    infer,
    operand::{Input, Operand},
};

/// No op of the server gives more results.
const MAX_OUTPUTS: usize = 1_024;

/// A value on the server, known here by its handle.
///
/// It may not exist yet: whatever is done with it travels behind the command that makes it. Its elements come over
/// only when [asked for](Self::value). Cloning copies the handle; the server forgets the value with the last copy.
///
/// Operators and the methods named after ops apply them. Both sides of an operator may be tensors, variables, their
/// references, or plain numbers, which take the type of the tensor.
///
/// # Panics
///
/// Combining values of different sessions panics: no server could make sense of it.
#[derive(Clone)]
pub struct Tensor {
    handle: Arc<Handle>,
    dtype: Option<DType>,
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({})", self.handle.id)
    }
}

impl AsRef<Tensor> for Tensor {
    fn as_ref(&self) -> &Tensor {
        self
    }
}

impl Tensor {
    pub(crate) fn new(handle: Arc<Handle>, dtype: Option<DType>) -> Self {
        Self { handle, dtype }
    }

    /// The elements, row by row. The question is sent at once; waiting is the future's business.
    #[track_caller]
    pub fn value<T: Element>(&self) -> impl Future<Output = Result<Vec<T>>> + Send + use<T> {
        let data = self.data();
        async { data.await?.to_vec() }
    }

    /// The only element of a tensor that has one.
    #[track_caller]
    pub fn scalar<T: Element>(&self) -> impl Future<Output = Result<T>> + Send + use<T> {
        let data = self.data();
        async { data.await?.to_scalar() }
    }

    /// The elements with their type and shape. Large tensors come in chunks.
    #[track_caller]
    pub fn data(&self) -> impl Future<Output = Result<TensorData>> + Send + use<> {
        let value = self.handle.id;
        let answer = self.handle.ask(Location::caller(), Kind::Fetch(proto::Fetch { value }));
        let handle = Arc::clone(&self.handle);
        async move { handle.core.fetched(value, answer).await }
    }

    /// The type and shape.
    #[track_caller]
    pub fn spec(&self) -> impl Future<Output = Result<Spec>> + Send + use<> {
        let kind = Kind::Describe(proto::Describe { value: self.handle.id });
        let answer = self.handle.ask(Location::caller(), kind);
        let core = Arc::clone(&self.handle.core);
        async move {
            match core.answer(answer).await? {
                proto::Reply { result: Some(reply::Result::Spec(spec)), .. } => spec.try_into(),
                reply => Err(unexpected(&reply)),
            }
        }
    }

    /// The session that the value belongs to.
    pub fn session(&self) -> Session {
        Session::from_handle(&self.handle)
    }

    /// The number that the value has on the wire.
    pub fn handle(&self) -> u64 {
        self.handle.id
    }

    /// The element type, as far as this client can tell without asking.
    pub(crate) fn dtype(&self) -> Option<DType> {
        self.dtype
    }

    /// The handle, for a command of this session.
    #[track_caller]
    pub(crate) fn id_in(&self, core: &Arc<Core>) -> u64 {
        assert!(Arc::ptr_eq(&self.handle.core, core), "the tensor belongs to another session");
        self.handle.id
    }

    /// Applies an op with one result whose first input this is.
    #[track_caller]
    pub(crate) fn apply(
        &self,
        op: &'static str,
        others: &[&dyn Operand],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> Tensor {
        self.apply_many(op, others, 1, attributes).remove(0)
    }

    /// Applies an op with several results whose first input this is.
    #[track_caller]
    pub(crate) fn apply_many(
        &self,
        op: &'static str,
        others: &[&dyn Operand],
        outputs: i64,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> Vec<Tensor> {
        // A number that makes no sense is left to the op to refuse, which needs a result to fail by.
        let outputs = usize::try_from(outputs).unwrap_or(0).clamp(1, MAX_OUTPUTS);
        let others: Vec<Input<'_>> = others.iter().map(|other| other.input()).collect();
        let inputs = [&[Input::Tensor(self)], &others[..]].concat();
        self.apply_inputs(op, &inputs, outputs, attributes)
    }

    /// Applies an op to inputs of which this is one.
    #[track_caller]
    pub(crate) fn apply_inputs(
        &self,
        op: &'static str,
        inputs: &[Input<'_>],
        outputs: usize,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> Vec<Tensor> {
        let core = &self.handle.core;
        // Where a condition comes first, the number stands beside the last tensor, not beside the condition.
        let peer = inputs.iter().rev().find_map(Input::dtype);
        let dtypes: Vec<_> = inputs.iter().map(|input| input.dtype().or(peer)).collect();
        let dtype = infer::result(op, &dtypes, &attributes);
        let attributes = attributes.into_iter().map(|(name, value)| value.named(name)).collect();
        let location = Location::caller();
        let ids = core.queue.record(self.handle.scope, location, |recorder| {
            let ids = inputs.iter().map(|input| match *input {
                Input::Tensor(tensor) => tensor.id_in(core),
                Input::Scalar(scalar) => recorder.scalar(scalar, peer),
            });
            let inputs = ids.collect();
            let outputs: Vec<u64> = (0..outputs).map(|_| recorder.handle()).collect();
            let (name, ids) = (op.to_owned(), outputs.clone());
            recorder.push(Kind::Op(proto::Op { name, inputs, outputs, attributes }));
            ids
        });
        ids.into_iter().map(|id| self.session().tensor(id, dtype)).collect()
    }
}
