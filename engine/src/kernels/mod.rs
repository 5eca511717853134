//! Loops over elements. Inputs are contiguous and were checked by `infer`; memory comes from `array::buffer` only.
//!
//! Every loop visits elements in one fixed order, so the same input gives the same bits.

pub(crate) mod attention;
pub(crate) mod block;
pub(crate) mod chain;
pub(crate) mod columns;
pub(crate) mod convolution;
pub(crate) mod cursor;
pub(crate) mod direct;
pub(crate) mod elementwise;
pub(crate) mod factor;
pub(crate) mod folds;
pub(crate) mod gamma;
pub(crate) mod lanes;
pub(crate) mod loops;
pub(crate) mod matmul;
pub(crate) mod matrix;
pub(crate) mod max_pool;
pub(crate) mod normalize;
pub(crate) mod order;
pub(crate) mod panel;
pub(crate) mod pool;
pub(crate) mod real;
pub(crate) mod reduce;
pub(crate) mod registers;
pub(crate) mod resample;
pub(crate) mod rows;
pub(crate) mod scan;
pub(crate) mod scatter;
pub(crate) mod softmax;
pub(crate) mod special;
pub(crate) mod strided;
pub(crate) mod vector;
pub(crate) mod window;
pub(crate) mod winograd;
