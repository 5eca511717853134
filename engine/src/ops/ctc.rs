//! Connectionist temporal classification: the loss of a sequence of labels when it is not known which frame is which label
//! (Graves et al. 2006).

use smallvec::smallvec;

use crate::{
    attrs,
    attrs::Attr,
    aval::{Aval, Shape},
    dtype::{DType, DTypes},
    error::Error,
    graph::Var,
    op::{Call, Derivative, Kernel, OpDef, ResultType, Rule},
    ops::{
        CONCAT, GREATER, Join, LESS, LOG_SOFTMAX, MAXIMUM, NOT_EQUAL, REDUCE_LOGSUMEXP, STACK,
        Softmax, TAKE_ALONG_AXIS,
        family::{self, index, integer, sample, sample_with, uniform},
        matrices::{column, part},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&CTC_LOSS];

/// Most frames. Each is a step of the program that the op stands for.
const MAX_FRAMES: usize = 4096;

/// Logarithm of the probability of what is impossible. Finite, so that no difference of two is NaN.
const IMPOSSIBLE: f64 = -1e30;

attrs! {
    /// Attributes of the loss.
    Ctc {
        /// The class that stands for no label; negative ones count from the end.
        blank_index: i64 = Int(0),
    }
}

/// Loss of sequences of labels. A composite: the sum over alignments runs frame by frame, and its derivative is the usual
/// backward pass.
pub static CTC_LOSS: OpDef = OpDef {
    family: "nn",
    inputs: &["labels", "logits", "label_length", "logit_length"],
    outputs: &["loss"],
    attrs: Ctc::SPECS,
    dtypes: DTypes::INTEGER,
    result: ResultType::Input(1),
    infer,
    samples: &[
        sample(&[
            index(&[2, 2], 1, 4),
            uniform(&[5, 2, 4], -1.0, 1.0),
            index(&[2], 1, 3),
            index(&[2], 4, 6),
        ]),
        sample_with(
            &[
                index(&[1, 1], 0, 2),
                uniform(&[3, 1, 3], -1.0, 1.0),
                index(&[1], 0, 2),
                index(&[1], 2, 4),
            ],
            || vec![("blank_index", Attr::Int(-1))],
        ),
    ],
    ..family::unary(
        "ctc_loss",
        "Connectionist temporal classification loss of label sequences, summed over all alignments. Logits are frames x batch x classes; what is behind a length is ignored. Infinite where the frames are too few.",
        "loss = -ln(sum over alignments of product of softmax(logits)[t, label at t])",
        Kernel::Composite(|r| smallvec![ctc_loss(r)]),
        Derivative::None,
    )
};

fn infer(call: &Call) -> Result<crate::aval::Avals, Error> {
    let [labels, logits, label_length, logit_length] = call.inputs else {
        return Err(Error::bug("ctc_loss takes four inputs"));
    };
    [labels, label_length, logit_length].into_iter().try_for_each(integer)?;
    if !logits.dtype.is_float() {
        return Err(Error::UnsupportedDType { dtype: logits.dtype, accepted: DTypes::FLOAT });
    }
    let invalid = |aval: &Aval, why| Error::InvalidShape {
        shape: aval.shape.to_i64().as_slice().into(),
        why,
    };
    let [frames, batch, classes] = logits.shape[..] else {
        return Err(invalid(logits, "logits are frames x batch x classes"));
    };
    let (&[rows, _], &[labelled], &[framed]) =
        (&labels.shape[..], &label_length.shape[..], &logit_length.shape[..])
    else {
        return Err(invalid(labels, "labels are batch x positions, lengths as many as the batch"));
    };
    if [rows, labelled, framed] != [batch; 3] {
        return Err(invalid(labels, "labels, logits and lengths must be of one batch"));
    }
    if frames > MAX_FRAMES {
        return Err(invalid(logits, "more than 4096 frames"));
    }
    blank(classes, Ctc::read(call.attrs).blank_index)?;
    Ok(smallvec![Aval { dtype: logits.dtype, shape: [batch].into() }])
}

/// The blank class, counted from the begin.
fn blank(classes: usize, index: i64) -> Result<usize, Error> {
    let count = i64::try_from(classes).unwrap_or(i64::MAX);
    let index = if index < 0 { index.saturating_add(count) } else { index };
    let found = usize::try_from(index).ok().filter(|&index| index < classes);
    found.ok_or_else(|| Error::attribute("blank_index", "must name a class"))
}

/// Two sequences in turn, after a first element: `first, a0, b0, a1, b1, ...`.
fn interleaved<'g>(first: Var<'g>, a: Var<'g>, b: Var<'g>) -> Var<'g> {
    let pairs = a.op(&STACK, Join { axis: -1 }.write(), &[b]);
    let [batch, length] = a.shape()[..] else { return a };
    let flat = pairs.reshape(&[batch, length.saturating_mul(2)].into());
    first.op(&CONCAT, Join { axis: 1 }.write(), &[flat])
}

/// The states are the labels with a blank before, between and behind them. `alpha` holds the logarithm of the probability
/// of all ways to be in a state after the frames so far.
fn ctc_loss<'g>(r: &Rule<'g>) -> Var<'g> {
    let (logits, label_length, frames_used) = (r.x[1], r.x[2], r.x[3]);
    let [frames, batch, classes] = logits.shape()[..] else { return logits };
    let dtype = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let graph = logits.graph();
    let label_length = label_length.cast(DType::I64);
    let labels = known_labels(r.x[0].cast(DType::I64), label_length);
    let blank = blank(classes, Ctc::read(r.attrs).blank_index).unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer classes than 2^52")]
    let blanks = |shape: [usize; 2]| graph.full(&Aval::new(DType::I64, shape), blank as f64);
    let Some(&count) = labels.shape().last() else { return logits };
    let states = interleaved(blanks([batch, 1]), labels, blanks([batch, count]));
    let width = count.saturating_mul(2).saturating_add(1);
    let impossible = |columns| graph.full(&Aval::new(dtype, [batch, columns]), IMPOSSIBLE);
    let skipped = skips(labels, &impossible);

    let log = logits.cast(dtype).op(&LOG_SOFTMAX, Softmax { axis: -1 }.write(), &[]);
    let places = states.broadcast_to(&[frames, batch, width].into());
    let emitted = log.op(&TAKE_ALONG_AXIS, crate::ops::AlongAxis { axis: 2 }.write(), &[places]);
    let row: Shape = [batch, width].into();
    let start = graph.full(&Aval::new(dtype, [batch, 1]), 0.0);
    let mut alpha = join(start, impossible(width - 1));
    let used = column(frames_used.cast(DType::I64));
    for t in 0..frames {
        let mut ways: Vec<Var> = vec![join(impossible(1), part(alpha, 1, 0, width - 1))];
        if width > 2 {
            let before = join(impossible(2), part(alpha, 1, 0, width - 2));
            ways.push(before + skipped);
        }
        let ways = alpha.op(&STACK, Join { axis: -1 }.write(), &ways);
        let next =
            ways.reduce(&REDUCE_LOGSUMEXP, &[2], false) + part(emitted, 3, t, t + 1).reshape(&row);
        #[expect(clippy::cast_precision_loss, reason = "there are few frames")]
        let is_used = used.zip(&GREATER, used.scalar(t as f64));
        alpha = next.select(is_used, alpha);
    }
    let total = ends(alpha, label_length, &impossible);
    let possible = total.zip(&GREATER, total.scalar(IMPOSSIBLE / 2.0));
    (-total).select(possible, total.full_like(f64::INFINITY)).cast(logits.dtype())
}

fn join<'g>(a: Var<'g>, b: Var<'g>) -> Var<'g> {
    a.op(&CONCAT, Join { axis: 1 }.write(), &[b])
}

/// Labels with class 0 behind their lengths: whatever is there must not matter, but must be a class.
fn known_labels<'g>(labels: Var<'g>, length: Var<'g>) -> Var<'g> {
    let count = labels.shape().last().copied().unwrap_or(0);
    let known = labels.graph().positions(count).zip(&LESS, column(length));
    labels.select(known, labels.zeros())
}

/// Added for the step over a blank: nothing between labels that differ, and what makes it impossible elsewhere.
fn skips<'g>(labels: Var<'g>, impossible: &impl Fn(usize) -> Var<'g>) -> Var<'g> {
    let count = labels.shape().last().copied().unwrap_or(0);
    if count < 2 {
        return impossible(count.saturating_mul(2).saturating_add(1));
    }
    let differ = part(labels, 1, 1, count).zip(&NOT_EQUAL, part(labels, 1, 0, count - 1));
    let later = impossible(count - 1);
    let allowed = join(impossible(1), later.zeros().select(differ, later));
    interleaved(impossible(1), allowed, impossible(count))
}

/// The probability of the last label, or of the blank behind it, after the last frame.
fn ends<'g>(alpha: Var<'g>, length: Var<'g>, impossible: &impl Fn(usize) -> Var<'g>) -> Var<'g> {
    let last = column(length) * 2.0;
    let before = (last - 1.0).zip(&MAXIMUM, last.zeros());
    let take =
        |at: Var<'g>| alpha.op(&TAKE_ALONG_AXIS, crate::ops::AlongAxis { axis: 1 }.write(), &[at]);
    let some = column(length).zip(&GREATER, length.scalar(0.0));
    let labelled = take(before).select(some, impossible(1));
    join(take(last), labelled).reduce(&REDUCE_LOGSUMEXP, &[1], false)
}
