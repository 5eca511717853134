//! What type an op's result has, as far as expressions with plain numbers need it.
//!
//! `x * 2.0` needs a constant of `x`'s type before any answer has come. The server's inference has the last word.

use crate::{Attribute, DType, ops};

/// Where the type of an op's result comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultType {
    /// It is that of the input at this position.
    Input(usize),
    /// It is always this.
    Fixed(DType),
    /// The attribute of this name says it, and this is its default.
    Attribute(&'static str, DType),
}

/// The type of the results, if it is known. An op that this client does not know is taken for one that keeps the
/// type of its first input.
pub(crate) fn result(
    op: &str,
    inputs: &[Option<DType>],
    attributes: &[(&'static str, Attribute)],
) -> Option<DType> {
    match ops::result_type(op) {
        ResultType::Input(position) => inputs.get(position).copied().flatten(),
        ResultType::Fixed(dtype) => Some(dtype),
        ResultType::Attribute(name, default) => {
            let given = attributes.iter().find(|(given, _)| *given == name);
            if let Some((_, Attribute::DType(dtype))) = given {
                Some(*dtype)
            } else {
                Some(default)
            }
        }
    }
}
