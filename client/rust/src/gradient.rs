//! Gradients, whose form the server knows first.

use std::{fmt, ops::Deref, sync::Arc};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use gradtape_proto::v1::{self as proto, reply};

use crate::{
    DType, Error, Result, Session, Spec, Tensor,
    core::{Core, Handle, unexpected},
    queue::AnswerReceiver,
};

/// The answer to one gradient call, shared by its gradients.
type Answer = Shared<BoxFuture<'static, Result<Arc<proto::GradientReply>>>>;

/// What became of a gradient.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GradientKind {
    /// A tensor of the source's type and shape.
    Dense(Spec),
    /// Rows and their numbers, with this type and shape if they were dense; duplicates are kept.
    Sparse(Spec),
    /// There is no path from the source to the target, which is not the same as zero.
    Absent(AbsentReason),
    /// There is no path, and zeros were asked for.
    ZeroFilled(AbsentReason),
}

/// Why a gradient is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbsentReason {
    /// The tape never saw the source: watch it before it is used.
    NotWatched,
    /// The source or the target has an integer or boolean type.
    DType,
    /// Every path goes through `stop_gradient`.
    StopGradient,
    /// Every path goes through an op without a derivative.
    NoDerivative,
    /// The target does not depend on the source.
    NoPath,
    /// The server gave a reason that this client does not know.
    Other,
}

/// The gradient with respect to one source; also a Jacobian, or a tangent.
///
/// It is usable as a [`Tensor`] at once. Whether it is there at all only the server knows: [`kind`](Self::kind) asks.
/// Using an absent one fails in the session, except in [`Optimizer::apply`](crate::Optimizer::apply), which skips it.
#[derive(Clone)]
pub struct Gradient {
    values: Tensor,
    indices: Option<Tensor>,
    answer: Answer,
    position: usize,
}

impl fmt::Debug for Gradient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gradient({})", self.values.handle())
    }
}

impl Deref for Gradient {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.values
    }
}

impl AsRef<Tensor> for Gradient {
    fn as_ref(&self) -> &Tensor {
        self
    }
}

impl Gradient {
    /// Takes charge of the results of a gradient call.
    pub(crate) fn make_all(
        core: &Arc<Core>,
        scope: u32,
        outputs: &[proto::GradientOutput],
        dtypes: Vec<Option<DType>>,
        answer: AnswerReceiver,
    ) -> Vec<Self> {
        let own = |id, dtype| Tensor::new(Handle::own(core, scope, id), dtype);
        let asker = Arc::clone(core);
        let answer = async move {
            match asker.answer(answer).await? {
                proto::Reply { result: Some(reply::Result::Gradient(reply)), .. } => {
                    Ok(Arc::new(reply))
                }
                reply => Err(unexpected(&reply)),
            }
        };
        let answer = answer.boxed().shared();
        let outputs = outputs.iter().zip(dtypes).enumerate();
        let gradients = outputs.map(|(position, (output, dtype))| Self {
            values: own(output.gradient, dtype),
            indices: (output.indices != 0).then(|| own(output.indices, Some(DType::I64))),
            answer: answer.clone(),
            position,
        });
        gradients.collect()
    }

    /// Takes charge of the results of a call that gives nothing sparse.
    pub(crate) fn make_dense(
        core: &Arc<Core>,
        scope: u32,
        outputs: &[u64],
        dtypes: Vec<Option<DType>>,
        answer: AnswerReceiver,
    ) -> Vec<Self> {
        let output = |&gradient: &u64| proto::GradientOutput { gradient, indices: 0 };
        let outputs: Vec<_> = outputs.iter().map(output).collect();
        Self::make_all(core, scope, &outputs, dtypes, answer)
    }

    /// What became of it.
    pub async fn kind(&self) -> Result<GradientKind> {
        let reply = self.answer.clone().await?;
        let info = reply.gradients.get(self.position);
        info.ok_or_else(|| Error::Protocol("a gradient has no answer".to_owned()))?.try_into()
    }

    /// Whether it is there: dense, sparse or filled with zeros.
    pub async fn is_present(&self) -> Result<bool> {
        Ok(!matches!(self.kind().await?, GradientKind::Absent(_)))
    }

    /// The row numbers, if [sparse gradients](crate::GradientOptions::sparse) were asked for. They exist only if
    /// [`kind`](Self::kind) says that this one is sparse.
    pub fn indices(&self) -> Option<&Tensor> {
        self.indices.as_ref()
    }

    /// The session that the gradient belongs to.
    pub fn session(&self) -> Session {
        self.values.session()
    }
}

impl TryFrom<&proto::GradientInfo> for GradientKind {
    type Error = Error;

    fn try_from(info: &proto::GradientInfo) -> Result<Self> {
        use proto::GradientKind as Kind;

        let spec = || {
            let spec = info.spec.clone();
            spec.ok_or_else(|| Error::Protocol("a gradient has no spec".to_owned()))?.try_into()
        };
        match info.kind() {
            Kind::Dense => Ok(Self::Dense(spec()?)),
            Kind::Sparse => Ok(Self::Sparse(spec()?)),
            Kind::Absent => Ok(Self::Absent(info.absent_reason().into())),
            Kind::ZeroFilled => Ok(Self::ZeroFilled(info.absent_reason().into())),
            Kind::Unspecified => {
                Err(Error::Protocol(format!("gradient kind {} is not known", info.kind)))
            }
        }
    }
}

impl From<proto::AbsentReason> for AbsentReason {
    fn from(reason: proto::AbsentReason) -> Self {
        match reason {
            proto::AbsentReason::NotWatched => Self::NotWatched,
            proto::AbsentReason::Dtype => Self::DType,
            proto::AbsentReason::StopGradient => Self::StopGradient,
            proto::AbsentReason::NoDerivative => Self::NoDerivative,
            proto::AbsentReason::NoPath => Self::NoPath,
            proto::AbsentReason::Unspecified => Self::Other,
        }
    }
}
