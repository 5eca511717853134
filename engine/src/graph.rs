//! stub
#[derive(Clone, Copy, Debug)]
pub struct Var<'g>(pub &'g ());
