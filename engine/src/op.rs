//! The shape of an op definition: everything about an op in one record.
//!
//! Recording reads `infer`, admission `cost`, execution `kernel`, differentiation `derivative`, the catalogue and the
//! generated clients the rest, and the tests `samples`. The records are in [`ops`](crate::ops).

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::{
    array::{Array, Tensor},
    attrs::{Attr, AttrSpec, Attrs},
    aval::{Aval, Avals},
    batching::Batching,
    dtype::{DType, DTypes},
    error::Error,
    exec::Tensors,
    graph::Var,
    kernels::registers::{Operands, Registers},
    ledger::Ledger,
};

/// One application of an op, before it runs.
#[derive(Debug)]
pub struct Call<'a> {
    /// The op.
    pub op: &'static OpDef,
    /// Its attributes, checked against its specification.
    pub attrs: &'a Attrs,
    /// What is known of its inputs.
    pub inputs: &'a [Aval],
}

/// The arrays that a kernel makes, one for each output.
pub type Arrays = SmallVec<[Array; 1]>;

/// Computes the outputs of a call that `infer` accepted. Allocates only through `array::buffer`.
pub type Run = fn(&Call, &[Aval], &[&Array]) -> Result<Arrays, Error>;

/// Elements of an input, as many as the block has.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the variants are the dtypes that kernels see")]
pub enum Lanes<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    Bool(&'a [bool]),
}

/// Elements of the output, to be written.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants are the dtypes that kernels see")]
pub enum LanesMut<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
    I32(&'a mut [i32]),
    I64(&'a mut [i64]),
    Bool(&'a mut [bool]),
}

/// Where an elementwise kernel writes.
#[derive(Debug)]
pub struct Output<'a>(pub(crate) Place<'a>);

/// Memory, or registers, which hold the inputs as well.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    Lanes(LanesMut<'a>),
    Lines(&'a mut Registers, &'a Operands),
}

impl<'a> From<LanesMut<'a>> for Output<'a> {
    fn from(lanes: LanesMut<'a>) -> Self {
        Self(Place::Lanes(lanes))
    }
}

/// Computes an elementwise op: one block, of which all slices have one length, or what is in registers.
pub type BlockKernel = fn(&Attrs, &[Lanes<'_>], &mut Output<'_>) -> Result<(), Error>;

/// The loop of an elementwise op for a dtype of its first input, if it takes that.
pub type Blocks = fn(DType) -> Option<BlockKernel>;

/// A fold of elements that come block by block. However they are cut, the results are those of the same elements at once.
pub trait Fold: Send {
    /// Takes in the elements that follow.
    fn take(&mut self, block: Lanes<'_>) -> Result<(), Error>;

    /// Writes the results, once all elements were taken in.
    fn write(&self, out: &mut LanesMut<'_>) -> Result<(), Error>;
}

/// Begins a fold of elements of a dtype along axes that are neighbours: extents outside, of and inside of these, none of
/// them 0.
pub type BeginFold = fn(DType, [usize; 3]) -> Result<Box<dyn Fold>, Error>;

/// Runs control flow on tensors.
pub type Control = fn(&Call, &[&Tensor], &Arc<Ledger>) -> Result<Tensors, Error>;

/// Where an op's results come from.
#[derive(Clone, Copy, Debug)]
pub enum Kernel {
    /// A kernel of its own.
    Run(Run),
    /// A loop over elements at the same place of inputs that broadcast. Plans join such loops.
    Elementwise(Blocks),
    /// A fold along the axes that its attributes name as [`Reduce`](crate::ops::Reduce) does: a kernel of its own, and the
    /// same for elements that come block by block. Plans let a chain end in it.
    Fold(Run, BeginFold),
    /// The first input's memory in the shape of the output.
    Alias,
    /// Bodies, which its attributes hold; they pay for their own memory.
    Control(Control),
    /// Other ops: it is replaced by them when it is applied, so it has neither kernel nor derivative of its own.
    Composite(for<'g> fn(&Rule<'g>) -> Vars<'g>),
}

/// What a derivative rule may look at: handles of the op's inputs and outputs, never their elements.
#[derive(Debug)]
pub struct Rule<'g> {
    /// The op's attributes.
    pub attrs: &'g Attrs,
    /// The inputs.
    pub x: Vars<'g>,
    /// The outputs; empty while a composite expands.
    pub y: Vars<'g>,
    /// Which inputs need a cotangent; a rule may skip the others.
    pub needs: SmallVec<[bool; 4]>,
}

impl<'g> Rule<'g> {
    /// The first output.
    pub fn y(&self) -> Var<'g> {
        self.y[0]
    }
}

/// Several values of a graph.
pub type Vars<'g> = SmallVec<[Var<'g>; 2]>;

/// What flows backwards into one value.
#[derive(Clone, Copy, Debug)]
pub enum Cotangent<'g> {
    /// A tensor of the value's shape.
    Dense(Var<'g>),
    /// Rows along the value's first axis, to be added at `indices`; duplicates are kept.
    Rows {
        /// Shape `[number of indices, the value's other extents]`.
        values: Var<'g>,
        /// Row numbers, rank 1.
        indices: Var<'g>,
    },
}

impl<'g> From<Var<'g>> for Cotangent<'g> {
    fn from(var: Var<'g>) -> Self {
        Self::Dense(var)
    }
}

/// One cotangent for each input, where there is one.
pub type Cotangents<'g> = SmallVec<[Option<Cotangent<'g>>; 2]>;

/// Cotangents of the first inputs; the remaining inputs get none.
pub(crate) fn cotangents<const N: usize>(values: [Var<'_>; N]) -> Cotangents<'_> {
    values.into_iter().map(|value| Some(value.into())).collect()
}

/// The cotangent of the only differentiable input, at position `at`.
pub(crate) fn cotangent_at(at: usize, value: Var<'_>) -> Cotangents<'_> {
    let mut all: Cotangents = smallvec![None; at];
    all.push(Some(value.into()));
    all
}

/// From cotangents of the outputs (zeros where nothing flowed) to cotangents of the inputs.
pub type Vjp = for<'g> fn(&Rule<'g>, &[Var<'g>]) -> Cotangents<'g>;

/// From tangents of the inputs to tangents of the outputs.
pub type Jvp = for<'g> fn(&Rule<'g>, &[Option<Var<'g>>]) -> Vars<'g>;

/// Which values of a node a rule computes with. The tape keeps these and no others; a test compares the declaration
/// with what the rule really reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads(u8);

impl Reads {
    /// None: shapes are enough.
    pub const NONE: Self = Self(0);
    /// The first input.
    pub const X0: Self = Self(1);
    /// The second input.
    pub const X1: Self = Self(1 << 1);
    /// The third input.
    pub const X2: Self = Self(1 << 2);
    /// All inputs.
    pub const X: Self = Self(0x7f);
    /// The outputs.
    pub const Y: Self = Self(1 << 7);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether input `i` is read. From the seventh on inputs share a bit.
    pub const fn input(self, i: usize) -> bool {
        let bit = if i < 6 { i } else { 6 };
        self.0 & (1 << bit) != 0
    }

    /// Whether the outputs are read.
    pub const fn output(self) -> bool {
        self.0 & Self::Y.0 != 0
    }
}

/// The derivative of an elementwise op with respect to one input.
#[derive(Clone, Copy, Debug)]
pub struct Partial {
    /// What `of` computes with.
    pub reads: Reads,
    /// The formula.
    pub of: for<'g> fn(&Rule<'g>) -> Var<'g>,
}

/// A partial derivative: what it reads, and the formula.
pub(crate) const fn d(reads: Reads, of: for<'g> fn(&Rule<'g>) -> Var<'g>) -> Partial {
    Partial { reads, of }
}

/// How an op differentiates. Both modes are read from this entry.
#[derive(Clone, Copy, Debug)]
pub enum Derivative {
    /// It has none: gradients through it are absent.
    None,
    /// Zero wherever it is defined, and the path counts as connected, as in TensorFlow.
    Zero,
    /// Output element i depends on input elements i only: one partial for each input. Broadcasting is undone in one
    /// place for all.
    Elementwise(&'static [Partial]),
    /// Linear in its differentiable inputs taken together: the tangent goes through the op itself.
    Linear {
        /// What the transpose computes with.
        reads: Reads,
        /// The transpose.
        transpose: Vjp,
    },
    /// Linear in each input with the others held fixed. The transpose reads the other inputs.
    Multilinear {
        /// The transpose for each input.
        transpose: Vjp,
    },
    /// Everything else says both.
    Custom {
        /// What both rules compute with.
        reads: Reads,
        /// Reverse mode.
        vjp: Vjp,
        /// Forward mode.
        jvp: Jvp,
    },
}

/// An estimate made before anything runs. Memory of the outputs is known from their shapes and not repeated here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Arithmetic operations.
    pub flops: u64,
    /// Bytes that the kernel needs for itself while it runs.
    pub workspace: u64,
}

/// The dtype of an op's results, as clients must know it without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultType {
    /// That of the input at this position.
    Input(usize),
    /// Always this one.
    Fixed(DType),
    /// The attribute of this name says it.
    Attribute(&'static str),
}

/// An input set for the generated checks.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What each input is.
    pub inputs: &'static [Input],
    /// Attributes that differ from their defaults.
    pub attrs: fn() -> Vec<(&'static str, Attr)>,
}

/// One input of a sample.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Its shape.
    pub shape: &'static [usize],
    /// What it holds.
    pub fill: Fill,
}

/// What a sample's input holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Random numbers between the two, of each dtype that the op takes.
    Uniform(f64, f64),
    /// Random integers from the first up to but not including the second, of dtype `int64`.
    Index(i64, i64),
    /// Random truth values.
    Bool,
    /// Matrices with a dominant diagonal, of each dtype that the op takes: far from singular, and with singular values, or
    /// eigenvalues, that are far from each other.
    Matrix {
        /// Whether they are symmetric, and so positive definite, and stay it when a derivative's direction is followed.
        symmetric: bool,
    },
}

impl Fill {
    /// Whether it holds numbers of each dtype that the op takes.
    pub const fn is_real(self) -> bool {
        matches!(self, Self::Uniform(..) | Self::Matrix { .. })
    }
}

/// All of an op.
#[derive(Clone, Copy, Debug)]
pub struct OpDef {
    /// Name on the wire, never reused.
    pub name: &'static str,
    /// Family: "math", "nn", "array", "linalg" or "random".
    pub family: &'static str,
    /// Names of the inputs.
    pub inputs: &'static [&'static str],
    /// Whether the last input may be repeated, or left out.
    pub variadic: bool,
    /// Names of the outputs. Where [`OpDef::count`] is set there are as many of the last as it says.
    pub outputs: &'static [&'static str],
    /// How many outputs there are, if attributes decide.
    pub count: Option<fn(&Attrs) -> usize>,
    /// One sentence.
    pub summary: &'static str,
    /// The formula.
    pub formula: &'static str,
    /// Attributes.
    pub attrs: &'static [AttrSpec],
    /// Element types that the (first) input may have.
    pub dtypes: DTypes,
    /// The dtype of the results.
    pub result: ResultType,
    /// Abstract values of the outputs, or why there are none. The only check of shapes and dtypes.
    pub infer: fn(&Call) -> Result<Avals, Error>,
    /// Price from abstract values alone.
    pub cost: fn(&Call, &[Aval]) -> Cost,
    /// How it is computed.
    pub kernel: Kernel,
    /// How it is differentiated.
    pub derivative: Derivative,
    /// How it is applied to a stack of values.
    pub batching: Batching,
    /// Inputs for the generated checks.
    pub samples: &'static [Sample],
}

impl OpDef {
    /// Number of outputs of a call with these attributes.
    pub fn output_count(&self, attrs: &Attrs) -> usize {
        self.count.map_or(self.outputs.len(), |count| count(attrs))
    }
}
