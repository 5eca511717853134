//! What may stand in an expression, and the operators.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::{DType, Gradient, Tensor, Variable, scalar::Scalar};

/// Something that an op takes as an input: a tensor, a variable, a gradient or a plain number.
pub trait Operand {
    /// What the op gets.
    fn input(&self) -> Input<'_>;
}

/// An input of an op.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A value or, by its current value, a variable.
    Tensor(&'a Tensor),
    /// A number that takes the type of the tensor beside it.
    Scalar(Scalar),
}

impl Input<'_> {
    /// The element type, if it has one and it is known.
    pub(crate) fn dtype(&self) -> Option<DType> {
        match self {
            Self::Tensor(tensor) => tensor.dtype(),
            Self::Scalar(_) => None,
        }
    }
}

impl<T: Operand + ?Sized> Operand for &T {
    fn input(&self) -> Input<'_> {
        (**self).input()
    }
}

impl Operand for Tensor {
    fn input(&self) -> Input<'_> {
        Input::Tensor(self)
    }
}

impl Operand for Variable {
    fn input(&self) -> Input<'_> {
        Input::Tensor(self)
    }
}

impl Operand for Gradient {
    fn input(&self) -> Input<'_> {
        Input::Tensor(self)
    }
}

impl Operand for f64 {
    fn input(&self) -> Input<'_> {
        Input::Scalar(Scalar::Real(*self))
    }
}

impl Operand for f32 {
    fn input(&self) -> Input<'_> {
        Input::Scalar(Scalar::Real((*self).into()))
    }
}

impl Operand for i64 {
    fn input(&self) -> Input<'_> {
        Input::Scalar(Scalar::Integer(*self))
    }
}

impl Operand for i32 {
    fn input(&self) -> Input<'_> {
        Input::Scalar(Scalar::Integer((*self).into()))
    }
}

/// `tensor ∘ anything` and `number ∘ tensor`, for each kind of tensor by value and by reference.
macro_rules! operator {
    ($trait:ident, $method:ident, $op:literal) => {
        operator!(@left $trait, $method, $op: Tensor, &Tensor, Variable, &Variable, Gradient, &Gradient);
    };
    (@left $trait:ident, $method:ident, $op:literal: $($left:ty),*) => {$(
        impl<T: Operand> $trait<T> for $left {
            type Output = Tensor;

            #[track_caller]
            fn $method(self, right: T) -> Tensor {
                self.apply($op, &[&right], vec![])
            }
        }

        impl $trait<$left> for f64 {
            type Output = Tensor;

            #[track_caller]
            fn $method(self, right: $left) -> Tensor {
                right.apply_inputs($op, &[self.input(), right.input()], 1, vec![]).remove(0)
            }
        }
    )*};
}

operator!(Add, add, "add");
operator!(Sub, sub, "subtract");
operator!(Mul, mul, "multiply");
operator!(Div, div, "divide");

macro_rules! negate {
    ($($operand:ty),*) => {$(
        impl Neg for $operand {
            type Output = Tensor;

            #[track_caller]
            fn neg(self) -> Tensor {
                self.apply("negative", &[], vec![])
            }
        }
    )*};
}

negate!(Tensor, &Tensor, Variable, &Variable, Gradient, &Gradient);
