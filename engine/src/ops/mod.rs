//! The op table. To add an op, write its record in the file of its family and name it in that file's `ALL`.
//!
//! What can be composed of other ops is a composite and has no kernel and no derivative of its own; an op is a primitive
//! only for numerical stability or speed.

pub mod array;
pub(crate) mod family;
pub mod indexing;
pub mod linalg;
pub mod math;
pub mod nn;
pub mod random;
pub mod reduce;

use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::op::OpDef;

/// The table, by family, as the catalogue lists it.
pub static ALL: LazyLock<Vec<&'static OpDef>> = LazyLock::new(|| {
    [math::ALL, reduce::ALL, array::ALL, indexing::ALL, linalg::ALL, nn::ALL, random::ALL].concat()
});

/// The op of that name.
pub fn find(name: &str) -> Option<&'static OpDef> {
    static BY_NAME: LazyLock<HashMap<&str, &OpDef>> =
        LazyLock::new(|| ALL.iter().map(|&op| (op.name, op)).collect());
    BY_NAME.get(name).copied()
}
