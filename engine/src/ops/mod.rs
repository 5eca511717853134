//! The op table. To add an op, write its record in the file of its family and name it in that file's `ALL`.
//!
//! What can be composed of other ops is a composite and has no kernel and no derivative of its own; an op is a primitive
//! only for numerical stability or speed.

mod along_axis;
mod array;
mod attention;
mod bitwise;
mod blocks;
mod compare;
pub(crate) mod control;
mod convolution;
mod ctc;
mod decomposition;
mod decomposition_rules;
mod diagonal;
mod einsum;
mod equations;
pub(crate) mod family;
mod gelu;
mod image;
mod indexing;
mod layer_norm;
mod linalg;
mod losses;
mod math;
mod matrices;
mod nn;
mod normalization;
mod order;
mod padding;
mod pool;
mod random;
mod rearrange;
mod reduce;
mod rounding;
mod scan;
mod scatter;
mod segment;
mod shape;
mod slicing;
mod softmax;
mod special;
mod trigonometry;
mod window;

use std::sync::LazyLock;

use hashbrown::HashMap;

pub use self::{
    along_axis::*, array::*, attention::*, bitwise::*, blocks::*, compare::*, convolution::*,
    ctc::*, decomposition::*, diagonal::*, einsum::*, equations::*, gelu::*, image::*, indexing::*,
    layer_norm::*, linalg::*, losses::*, math::*, nn::*, normalization::*, order::*, padding::*,
    pool::*, random::*, rearrange::*, reduce::*, rounding::*, scan::*, scatter::*, segment::*,
    shape::*, slicing::*, softmax::*, special::*, trigonometry::*, window::*,
};
use crate::op::OpDef;

/// The table, by family, as the catalogue lists it.
pub static ALL: LazyLock<Vec<&'static OpDef>> = LazyLock::new(|| {
    [
        math::ALL,
        trigonometry::ALL,
        special::ALL,
        rounding::ALL,
        compare::ALL,
        bitwise::ALL,
        reduce::ALL,
        scan::ALL,
        order::ALL,
        array::ALL,
        shape::ALL,
        slicing::ALL,
        padding::ALL,
        rearrange::ALL,
        blocks::ALL,
        indexing::ALL,
        scatter::ALL,
        segment::ALL,
        diagonal::ALL,
        along_axis::ALL,
        linalg::ALL,
        equations::ALL,
        decomposition::ALL,
        image::ALL,
        einsum::ALL,
        nn::ALL,
        attention::ALL,
        softmax::ALL,
        losses::ALL,
        ctc::ALL,
        convolution::ALL,
        pool::ALL,
        normalization::ALL,
        random::ALL,
    ]
    .concat()
});

/// The op of that name.
pub fn find(name: &str) -> Option<&'static OpDef> {
    static BY_NAME: LazyLock<HashMap<&str, &OpDef>> =
        LazyLock::new(|| ALL.iter().map(|&op| (op.name, op)).collect());
    BY_NAME.get(name).copied()
}
