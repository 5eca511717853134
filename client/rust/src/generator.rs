//! Random numbers that are the same on every machine.

use std::{panic::Location, sync::Arc};

use gradtape_proto::v1::{self as proto, command::Kind};

use crate::{
    DType, Session, Tensor,
    core::{Core, Handle},
};

/// A counter-based random generator on the server.
#[derive(Debug, Clone)]
pub struct Generator {
    handle: Arc<Handle>,
}

impl Generator {
    #[track_caller]
    pub(crate) fn create(core: &Arc<Core>, scope: u32, seed: i64) -> Self {
        let handle = Handle::make(core, scope, Location::caller(), |generator| {
            Kind::CreateGenerator(proto::CreateGenerator { generator, seed })
        });
        Self { handle }
    }

    pub(crate) fn id(&self) -> u64 {
        self.handle.id
    }

    /// Takes the state for so many draws, the input of the random ops, and moves on.
    #[track_caller]
    pub fn next(&self, draws: i64) -> Tensor {
        let session = Session::from_handle(&self.handle);
        let generator = self.handle.id;
        let state = session.make(Location::caller(), |output| {
            Kind::NextGeneratorState(proto::NextGeneratorState { generator, output, draws })
        });
        Tensor::new(state, Some(DType::I64))
    }

    /// Draws `f32` numbers evenly from 0 up to, and not including, 1.
    #[track_caller]
    pub fn uniform(&self, shape: impl Into<Vec<i64>>) -> Tensor {
        let shape = shape.into();
        self.next(draws(&shape)).random_uniform(shape)
    }

    /// Draws `f32` numbers from the normal distribution of mean 0 and deviation 1.
    #[track_caller]
    pub fn normal(&self, shape: impl Into<Vec<i64>>) -> Tensor {
        let shape = shape.into();
        self.next(draws(&shape)).random_normal(shape)
    }
}

/// How many numbers a shape takes. A shape that makes no sense is left to the op to refuse.
fn draws(shape: &[i64]) -> i64 {
    shape.iter().try_fold(1i64, |product, &extent| product.checked_mul(extent)).unwrap_or(1).max(1)
}
