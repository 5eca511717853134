//! Jacobians of one target.

use super::{Session, Slot};
use crate::{
    aval::Aval,
    command::{Answer, GradientInfo, GradientOutput, Handle, JacobianRequest},
    error::Error,
    exec,
    gradient::{Found, Source},
    graph::ValueId,
    jacobian::{Jacobians, Layout, MAX_ROWS, Sweep, jacobian, sweep},
};

/// What one application of a program costs to keep, in bytes, besides its values.
const APPLICATION_BYTES: u64 = 256;

impl Session {
    pub(super) fn jacobian(
        &mut self,
        request: &JacobianRequest,
        scope: u32,
    ) -> Result<Answer, Error> {
        self.check_free(&request.outputs)?;
        if request.outputs.len() != request.sources.len() {
            let (expected, given) = (request.sources.len(), request.outputs.len());
            return Err(Error::OutputCount { expected, given });
        }
        let (target, aval, _) = self.identify(request.target)?;
        let source = |&handle: &Handle| {
            let (id, aval, _) = self.identify(handle)?;
            Ok(Source { id, aval, sparse: false })
        };
        let sources: Vec<Source> = request.sources.iter().map(source).collect::<Result<_, _>>()?;
        for source in &sources {
            check(request.layout, &aval, &source.aval)?;
        }
        let infos = self.answer_from(request.tape, |session| {
            session.jacobians(request, (target, &aval), &sources, scope)
        })?;
        Ok(Answer::Gradients(infos))
    }

    fn jacobians(
        &mut self,
        request: &JacobianRequest,
        target: (ValueId, &Aval),
        sources: &[Source],
        scope: u32,
    ) -> Result<Vec<GradientInfo>, Error> {
        let sweep = sweep(self.tape(request.tape)?.trace(), target, sources)?;
        let (program, found) = self.fitting(&sweep, target.1, sources, request.layout)?;
        let wanted = slots(&found);
        let avals: Vec<Aval> = sources
            .iter()
            .map(|source| {
                let shape = request.layout.shape(&target.1.shape, &source.aval.shape);
                Aval { dtype: source.aval.dtype, shape }
            })
            .collect();
        let absent = found.iter().zip(&avals).filter(|(f, _)| matches!(f, Found::Absent(_)));
        let zeros = if request.zero_unconnected {
            absent.map(|(_, aval)| self.zeros_of(aval)).collect::<Result<_, _>>()?
        } else {
            Vec::new()
        };
        let mut values = self.run(program, &wanted, &[], scope)?.into_iter();
        let mut zeros = zeros.into_iter();
        let mut infos = Vec::new();
        for ((found, aval), &gradient) in found.into_iter().zip(avals).zip(&request.outputs) {
            infos.push(match found {
                Found::Dense(_) => {
                    let value = values.next().ok_or_else(|| Error::bug("a Jacobian is missing"))?;
                    self.slots.insert(gradient, Slot::Value(value));
                    GradientInfo::Dense(aval)
                }
                Found::Absent(reason) => {
                    let output = GradientOutput { gradient, indices: 0 };
                    self.absent(output, reason, aval, zeros.next())
                }
                Found::Rows { .. } => return Err(Error::bug("a Jacobian is sparse")),
            });
        }
        Ok(infos)
    }

    /// The program with the largest stacks for which there is memory now.
    fn fitting(
        &self,
        sweep: &Sweep,
        target: &Aval,
        sources: &[Source],
        layout: Layout,
    ) -> Result<Jacobians, Error> {
        let sweeps = layout.sweeps(&target.shape);
        let mut rows = MAX_ROWS.min(sweeps).max(1);
        loop {
            let stacks = (sweeps / rows) as u64 + 1;
            let bytes = stacks.saturating_mul(sweep.applications() as u64 * APPLICATION_BYTES);
            let written = self
                .ledger
                .admit(bytes)
                .and_then(|()| jacobian(sweep, target, sources, layout, rows))
                .and_then(|(program, found)| {
                    exec::admit(&self.ledger, &program, &slots(&found))?;
                    Ok((program, found))
                });
            match written {
                Err(error) if rows > 1 && is_about_size(&error) => rows /= 2,
                result => return result,
            }
        }
    }
}

/// Whether smaller stacks may do what larger ones did not.
fn is_about_size(error: &Error) -> bool {
    matches!(
        error,
        Error::MemoryLimit { .. }
            | Error::TensorTooLarge { .. }
            | Error::RankTooLarge { .. }
            | Error::ShapeOverflow { .. }
            | Error::CostTooHigh { .. }
    )
}

/// The slots that hold Jacobians.
fn slots(found: &[Found]) -> Vec<usize> {
    let dense = |found: &Found| if let Found::Dense(slot) = *found { Some(slot) } else { None };
    found.iter().filter_map(dense).collect()
}

/// Checks the shapes of a target and a source against the layout.
fn check(layout: Layout, target: &Aval, source: &Aval) -> Result<(), Error> {
    let (lhs, rhs) = (&target.shape, &source.shape);
    let mismatch =
        |expected| Err(Error::ShapeMismatch { lhs: lhs.clone(), rhs: rhs.clone(), expected });
    if layout == Layout::PerExample {
        if lhs.len() < 2 || rhs.len() < 2 {
            return mismatch("target and source must have two axes or more");
        }
        if lhs[0] != rhs[0] {
            return mismatch("target and source must have the same first extent");
        }
    }
    layout.shape(lhs, rhs).check()
}
