//! Gradients, Jacobians and tangents.

use gradtape_engine::{
    command::{
        CustomGradient, GradientKind, GradientOutput, GradientRequest, JacobianRequest, Kind,
        TangentRequest,
    },
    error::Error,
    jacobian::Layout,
};
use gradtape_proto::v1;

use super::fields::{MAX_HANDLES, bounded, handles, malformed};

pub(super) fn gradient(message: &v1::ComputeGradient) -> Result<Kind, Error> {
    bounded(message.outputs.len(), MAX_HANDLES, "compute_gradient.outputs")?;
    bounded(message.expected_kinds.len(), MAX_HANDLES, "compute_gradient.expected_kinds")?;
    let unconnected = message.unconnected_gradients;
    let zero_unconnected = zeros(unconnected, "compute_gradient.unconnected_gradients")?;
    let output =
        |m: &v1::GradientOutput| GradientOutput { gradient: m.gradient, indices: m.indices };
    Ok(Kind::Gradient(GradientRequest {
        tape: message.tape,
        targets: handles(&message.targets, "compute_gradient.targets")?,
        sources: handles(&message.sources, "compute_gradient.sources")?,
        outputs: message.outputs.iter().map(output).collect(),
        seeds: handles(&message.output_gradients, "compute_gradient.output_gradients")?,
        zero_unconnected,
        expected: message
            .expected_kinds()
            .map(gradient_kind)
            .collect::<Option<_>>()
            .unwrap_or_default(),
    }))
}

/// A kind that this version knows. With any other nothing counts as expected, and there is a reply.
fn gradient_kind(kind: v1::GradientKind) -> Option<GradientKind> {
    match kind {
        v1::GradientKind::Unspecified => None,
        v1::GradientKind::Dense => Some(GradientKind::Dense),
        v1::GradientKind::Sparse => Some(GradientKind::Sparse),
        v1::GradientKind::Absent => Some(GradientKind::Absent),
        v1::GradientKind::ZeroFilled => Some(GradientKind::ZeroFilled),
    }
}

pub(super) fn jacobian(message: &v1::ComputeJacobian) -> Result<Kind, Error> {
    let unconnected = message.unconnected_gradients;
    Ok(Kind::Jacobian(JacobianRequest {
        tape: message.tape,
        target: message.target,
        sources: handles(&message.sources, "compute_jacobian.sources")?,
        outputs: handles(&message.outputs, "compute_jacobian.outputs")?,
        layout: Layout::Full,
        zero_unconnected: zeros(unconnected, "compute_jacobian.unconnected_gradients")?,
    }))
}

pub(super) fn batch_jacobian(message: &v1::ComputeBatchJacobian) -> Kind {
    Kind::Jacobian(JacobianRequest {
        tape: message.tape,
        target: message.target,
        sources: vec![message.source],
        outputs: vec![message.output],
        layout: Layout::PerExample,
        zero_unconnected: true,
    })
}

pub(super) fn read_tangent(message: &v1::ReadTangent) -> Result<Kind, Error> {
    let unconnected = message.unconnected_gradients;
    Ok(Kind::ReadTangent(TangentRequest {
        accumulator: message.accumulator,
        values: handles(&message.values, "read_tangent.values")?,
        outputs: handles(&message.outputs, "read_tangent.outputs")?,
        zero_unconnected: zeros(unconnected, "read_tangent.unconnected_gradients")?,
    }))
}

pub(super) fn custom_gradient(message: &v1::RecordCustomGradient) -> Result<Kind, Error> {
    Ok(Kind::RecordCustomGradient(CustomGradient {
        inputs: handles(&message.inputs, "record_custom_gradient.inputs")?,
        results: handles(&message.results, "record_custom_gradient.results")?,
        outputs: handles(&message.outputs, "record_custom_gradient.outputs")?,
        upstream: handles(&message.upstream, "record_custom_gradient.upstream")?,
        gradients: handles(&message.gradients, "record_custom_gradient.gradients")?,
    }))
}

/// Whether what has no path gets zeros.
fn zeros(unconnected: i32, field: &str) -> Result<bool, Error> {
    match v1::UnconnectedGradients::try_from(unconnected) {
        Ok(v1::UnconnectedGradients::Unspecified | v1::UnconnectedGradients::None) => Ok(false),
        Ok(v1::UnconnectedGradients::Zero) => Ok(true),
        Err(_) => Err(malformed(field, "is not known")),
    }
}
