//! Variables: named, mutable tensors.

use std::{fmt, ops::Deref, panic::Location, sync::Arc};

use gradtape_proto::v1::{self as proto, AssignMode, command::Kind};

use crate::{
    DType, Session, Tensor, TensorData,
    core::{Core, Handle},
    operand::{Input, Operand},
};

/// What a variable is made with besides its first value.
#[derive(Debug, Clone, Copy)]
pub struct VariableOptions {
    /// Whether tapes watch it when it is read. Default true.
    pub trainable: bool,
}

impl Default for VariableOptions {
    fn default() -> Self {
        Self { trainable: true }
    }
}

/// A named, mutable tensor on the server.
///
/// It may stand wherever a tensor may and is read at that moment, so it dereferences to [`Tensor`]. A copy of that
/// tensor is still the variable; [`read`](Self::read) gives the value of now.
#[derive(Clone)]
pub struct Variable(Arc<Inner>);

/// A variable, once however many copies there are.
pub(crate) struct Inner {
    tensor: Tensor,
    name: String,
    core: std::sync::Weak<Core>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Variable({:?}, {})", self.name, self.tensor.handle())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.remove_variable(self.id());
        }
    }
}

impl Inner {
    pub(crate) fn id(&self) -> u64 {
        self.tensor.handle()
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Deref for Variable {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0.tensor
    }
}

impl AsRef<Tensor> for Variable {
    fn as_ref(&self) -> &Tensor {
        self
    }
}

impl AsRef<Variable> for Variable {
    fn as_ref(&self) -> &Variable {
        self
    }
}

impl Variable {
    #[track_caller]
    pub(crate) fn create(
        core: &Arc<Core>,
        scope: u32,
        name: &str,
        initial: &Tensor,
        options: VariableOptions,
    ) -> Self {
        let initial_value = initial.id_in(core);
        let handle = Handle::make(core, scope, Location::caller(), |variable| {
            Kind::CreateVariable(proto::CreateVariable {
                variable,
                name: name.to_owned(),
                initial_value,
                trainable: Some(options.trainable),
            })
        });
        let tensor = Tensor::new(handle, initial.dtype());
        let inner = Inner { tensor, name: name.to_owned(), core: Arc::downgrade(core) };
        let variable = Arc::new(inner);
        core.add_variable(&variable);
        Self(variable)
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// The name, for people.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Reads the variable: a value of its own, linked to the variable on every recording tape.
    #[track_caller]
    pub fn read(&self) -> Tensor {
        let session = self.session();
        let variable = self.handle();
        let id = session.record(Location::caller(), |recorder| {
            let output = recorder.handle();
            recorder.push(Kind::ReadVariable(proto::ReadVariable { variable, output }));
            output
        });
        session.tensor(id, self.dtype())
    }

    /// Replaces the value. Values read earlier stay as they were, and no gradient flows through.
    #[track_caller]
    pub fn assign(&self, value: impl Operand) {
        self.change(AssignMode::Replace, &value);
    }

    /// Adds to the value.
    #[track_caller]
    pub fn assign_add(&self, value: impl Operand) {
        self.change(AssignMode::Add, &value);
    }

    /// Subtracts from the value.
    #[track_caller]
    pub fn assign_sub(&self, value: impl Operand) {
        self.change(AssignMode::Subtract, &value);
    }

    /// Replaces rows: slices along the first axis. Of duplicate indices the last wins.
    #[track_caller]
    pub fn scatter_update(&self, indices: &Tensor, updates: &Tensor) {
        self.scatter(AssignMode::Replace, indices, updates);
    }

    /// Adds to rows, once for each index.
    #[track_caller]
    pub fn scatter_add(&self, indices: &Tensor, updates: &Tensor) {
        self.scatter(AssignMode::Add, indices, updates);
    }

    /// Subtracts from rows, once for each index.
    #[track_caller]
    pub fn scatter_sub(&self, indices: &Tensor, updates: &Tensor) {
        self.scatter(AssignMode::Subtract, indices, updates);
    }

    #[track_caller]
    fn change(&self, mode: AssignMode, value: &dyn Operand) {
        let variable = self.handle();
        let session = self.session();
        let dtype: Option<DType> = self.dtype();
        session.record(Location::caller(), |recorder| {
            let value = match value.input() {
                Input::Tensor(tensor) => tensor.id_in(session.core()),
                Input::Scalar(scalar) => recorder.scalar(scalar, dtype),
            };
            let mode = mode.into();
            recorder.push(Kind::AssignVariable(proto::AssignVariable { variable, value, mode }));
        });
    }

    #[track_caller]
    fn scatter(&self, mode: AssignMode, indices: &Tensor, updates: &Tensor) {
        let session = self.session();
        let kind = Kind::ScatterVariable(proto::ScatterVariable {
            variable: self.handle(),
            indices: indices.id_in(session.core()),
            updates: updates.id_in(session.core()),
            mode: mode.into(),
        });
        session.record(Location::caller(), |recorder| recorder.push(kind));
    }

    /// Replaces the value by elements from this side.
    #[track_caller]
    pub fn set(&self, data: impl Into<TensorData>) {
        let value: Tensor = Session::constant(&self.session(), data);
        self.assign(value);
    }
}
