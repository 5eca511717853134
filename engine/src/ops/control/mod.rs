//! Control flow: branches, loops and scans, each one op that runs bodies.
//!
//! They are not in the catalogue, since a body cannot be an attribute on the wire: commands make them of functions. A rule
//! here writes control flow again, of bodies that are the derivatives of the bodies: the gradient of a scan is a scan backwards
//! over the carries that the forward one had, which are computed again, and the gradient of a loop is that of as many steps as
//! it may have at most.

mod branch;
mod repeat;
mod scan;
mod tangents;

pub(crate) use self::{branch::BRANCH, repeat::WHILE, scan::SCAN};
use crate::{
    array::{Array, Tensor},
    attrs::{Attr, Attrs},
    aval::Aval,
    control::Bodies,
    dtype::DTypes,
    error::Error,
    graph::{Graph, Var},
    op::{Derivative, Kernel, OpDef, Vars},
    ops::family,
};

/// Attributes of the three ops.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    /// What is run.
    pub(crate) bodies: Bodies,
    /// How many of the operands are carried from one iteration to the next.
    pub(crate) carries: usize,
    /// How many are the same in each iteration.
    pub(crate) constants: usize,
    /// Most iterations of a loop, if there is a limit; those of a scan.
    pub(crate) length: Option<usize>,
    /// Whether a scan goes from the last slice to the first.
    pub(crate) reverse: bool,
}

impl Control {
    /// As attributes.
    pub(crate) fn write(self) -> Attrs {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let length = self.length.map_or(-1, number);
        let numbers = [number(self.carries), number(self.constants), length];
        Attrs::from_values([
            Attr::Bodies(self.bodies),
            Attr::Ints(numbers.into_iter().collect()),
            Attr::Bool(self.reverse),
        ])
    }

    /// From attributes.
    ///
    /// # Errors
    ///
    /// Only these ops have such attributes.
    pub(crate) fn read(attrs: &Attrs) -> Result<Self, Error> {
        let [Attr::Bodies(bodies), Attr::Ints(numbers), Attr::Bool(reverse)] = attrs.values()
        else {
            return Err(Error::bug("control flow without bodies"));
        };
        let number = |i: usize| numbers.get(i).and_then(|&n| usize::try_from(n).ok());
        Ok(Self {
            bodies: bodies.clone(),
            carries: number(0).unwrap_or(0),
            constants: number(1).unwrap_or(0),
            length: number(2),
            reverse: *reverse,
        })
    }
}

const fn control(
    name: &'static str,
    inputs: &'static [&'static str],
    summary: &'static str,
    formula: &'static str,
) -> OpDef {
    OpDef {
        family: "control",
        inputs,
        variadic: true,
        outputs: &["results"],
        dtypes: DTypes::ANY,
        ..family::unary(name, summary, formula, Kernel::Alias, Derivative::None)
    }
}

fn misfit(what: &str) -> Error {
    Error::Malformed { what: "a body".into(), why: what.into() }
}

fn fits(given: &[Aval], expected: &[Aval], what: &str) -> Result<(), Error> {
    if given == expected { Ok(()) } else { Err(misfit(what)) }
}

/// Positions of the values that can have a derivative.
fn differentiable<'a>(avals: impl IntoIterator<Item = &'a Aval>) -> Vec<usize> {
    let numbered = avals.into_iter().enumerate();
    numbered.filter(|(_, aval)| aval.dtype.is_differentiable()).map(|(i, _)| i).collect()
}

fn pick<'g>(vars: &[Var<'g>], positions: &[usize]) -> Vec<Var<'g>> {
    positions.iter().map(|&i| vars[i]).collect()
}

/// A rule's result, or the reason why there is none, which sticks to the graph.
fn or_fail<R: Default>(graph: &Graph, result: Result<R, Error>) -> R {
    result.unwrap_or_else(|error| {
        graph.fail(error);
        R::default()
    })
}

fn avals_of(vars: &[Var]) -> Vec<Aval> {
    vars.iter().map(|var| var.aval()).collect()
}

fn apply<'g>(op: &'static OpDef, control: Control, operands: &[Var<'g>]) -> Vars<'g> {
    operands[0].op_all(op, control.write(), &operands[1..])
}

/// Tangents for all outputs, from those of the differentiable ones.
fn beside<'g>(y: &[Var<'g>], tangents: impl IntoIterator<Item = Var<'g>>) -> Vars<'g> {
    let mut tangents = tangents.into_iter();
    let mut of = |y: &Var<'g>| if y.dtype().is_differentiable() { tangents.next() } else { None };
    y.iter().map(|y| of(y).unwrap_or_else(|| y.zeros())).collect()
}

/// The number in a scalar.
fn number(tensor: &Tensor) -> Result<i64, Error> {
    let first = match tensor.array() {
        Array::Bool(a) => a.first().map(|&x| i64::from(x)),
        Array::I32(a) => a.first().map(|&x| x.into()),
        Array::I64(a) => a.first().copied(),
        Array::F32(_) | Array::F64(_) | Array::F16(_) | Array::BF16(_) => None,
    };
    first.ok_or_else(|| Error::bug("an index that is no number"))
}
