//! Einstein summation: a small language for products of tensors with named axes.
//!
//! A composite. Operands are contracted from left to right, each pair by one matrix product or, where nothing is summed, by
//! one elementwise product; the axes are brought into place by transposes and reshapes.

use smallvec::{SmallVec, smallvec};

use crate::{
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, MAX_RANK, Shape},
    dtype::DTypes,
    error::Error,
    graph::Var,
    op::{Call, Derivative, Kernel, OpDef, Rule, Vars},
    ops::{
        Permutation, REDUCE_SUM, STRIDED_SLICE, Strided, TRANSPOSE,
        family::{self, common_dtype, sample_with, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&EINSUM];

attrs! {
    /// What to sum.
    Einsum {
        /// A letter for each axis, inputs separated by commas, then "->" and the axes of the result; without it the letters that appear once, in the order of the alphabet. "..." stands for axes that broadcast.
        equation: String = Required,
    }
}

/// The label of an axis: a letter, or for an axis under an ellipsis a digit, its place from the right.
type Label = u8;

/// The labels of a tensor's axes.
type Labels = SmallVec<[Label; 8]>;

/// An equation applied to inputs of known shapes.
struct Equation {
    /// Labels of the inputs.
    terms: Vec<Labels>,
    /// Labels of the result.
    output: Labels,
}

/// Extents by label. An axis under an ellipsis has the extent that it broadcasts to.
#[derive(Clone, Copy)]
struct Extents([Option<usize>; 128]);

fn malformed(why: impl Into<Box<str>>) -> Error {
    Error::attribute("equation", why)
}

/// The labels of one term, whose ellipsis stands for `hidden` axes if there is one.
fn labels(term: &str, hidden: usize) -> Result<Labels, Error> {
    let letters = |part: &str| match part.bytes().find(|byte| !byte.is_ascii_alphabetic()) {
        Some(byte) => Err(malformed(format!("has an unexpected {:?}", char::from(byte)))),
        None => Ok(Labels::from_slice(part.as_bytes())),
    };
    let Some((before, after)) = term.split_once("...") else { return letters(term) };
    let mut all = letters(before)?;
    all.extend((b'0'..=b'9').take(hidden).rev());
    all.extend(letters(after)?);
    Ok(all)
}

/// Number of letters in a term.
fn letters(term: &str) -> usize {
    term.bytes().filter(u8::is_ascii_alphabetic).count()
}

impl Equation {
    /// Parses an equation for inputs of these ranks.
    fn parse(text: &str, ranks: &[usize]) -> Result<Self, Error> {
        let text: String = text.split_whitespace().collect();
        let (inputs, output) = match text.split_once("->") {
            Some((inputs, output)) => (inputs, Some(output)),
            None => (&text[..], None),
        };
        let parts: SmallVec<[&str; 4]> = inputs.split(',').collect();
        if parts.len() != ranks.len() {
            let (terms, given) = (parts.len(), ranks.len());
            return Err(malformed(format!("has {terms} inputs, and {given} are given")));
        }
        let (mut terms, mut most) = (Vec::new(), 0);
        for (part, &rank) in parts.iter().zip(ranks) {
            let hidden = rank.checked_sub(letters(part));
            let hidden = hidden.filter(|&hidden| hidden == 0 || part.contains("..."));
            let hidden = hidden
                .ok_or_else(|| malformed(format!("has {part:?} for an input of rank {rank}")))?;
            most = most.max(hidden);
            terms.push(labels(part, hidden)?);
        }
        let output = match output {
            Some(output) => {
                if most > 0 && !output.contains("...") {
                    return Err(malformed("has an ellipsis in an input but not in the output"));
                }
                labels(output, most)?
            }
            None => implicit_output(&terms, most),
        };
        for (i, label) in output.iter().enumerate() {
            let name = char::from(*label);
            if output[..i].contains(label) {
                return Err(malformed(format!("has {name:?} in the output twice")));
            }
            if !terms.iter().any(|term| term.contains(label)) {
                return Err(malformed(format!("has {name:?} in the output only")));
            }
        }
        if output.len() > MAX_RANK {
            return Err(Error::RankTooLarge { rank: output.len() });
        }
        Ok(Self { terms, output })
    }

    /// The extents of all labels, if the shapes agree on them.
    fn extents(&self, shapes: &[Shape]) -> Result<Extents, Error> {
        let mut extents = Extents([None; 128]);
        for (term, shape) in self.terms.iter().zip(shapes) {
            for (&label, &extent) in term.iter().zip(shape.iter()) {
                let known = &mut extents.0[usize::from(label)];
                let broadcasts = label.is_ascii_digit();
                *known = match *known {
                    None => Some(extent),
                    Some(known) if known == extent || (broadcasts && extent == 1) => Some(known),
                    Some(1) if broadcasts => Some(extent),
                    Some(known) => {
                        let name = char::from(label);
                        return Err(malformed(format!(
                            "has the extents {known} and {extent} for {name:?}"
                        )));
                    }
                };
            }
        }
        Ok(extents)
    }
}

/// The letters that appear once in all terms together, after the axes under an ellipsis.
fn implicit_output(terms: &[Labels], hidden: usize) -> Labels {
    let count = |letter| terms.iter().flatten().filter(|&&label| label == letter).count();
    let letters = (b'A'..=b'Z').chain(b'a'..=b'z').filter(|&letter| count(letter) == 1);
    (b'0'..=b'9').take(hidden).rev().chain(letters).collect()
}

impl Extents {
    fn of(&self, labels: &[Label]) -> Shape {
        labels.iter().map(|&label| self.0[usize::from(label)].unwrap_or(1)).collect()
    }

    /// The product of extents, for a reshape. That of a tensor's own axes cannot overflow.
    fn product(&self, labels: &[Label]) -> usize {
        self.of(labels).elements()
    }
}

/// A tensor under contraction.
struct Operand<'g> {
    value: Var<'g>,
    labels: Labels,
}

impl<'g> Operand<'g> {
    /// An input with each label once: repeated ones are replaced by the diagonal, and axes under an ellipsis broadcast.
    fn new(value: Var<'g>, labels: &Labels, extents: &Extents) -> Self {
        let mut this = Self { value, labels: labels.clone() };
        while let Some(label) = this.repeated() {
            this.take_diagonal(label, extents);
        }
        // Where an extent of 1 meets a larger one, at most the axes under an ellipsis.
        this.value = this.value.broadcast_to(&extents.of(&this.labels));
        this
    }

    fn repeated(&self) -> Option<Label> {
        let twice = |&(i, label): &(usize, &Label)| self.labels[..i].contains(label);
        self.labels.iter().enumerate().find(twice).map(|(_, &label)| label)
    }

    /// Replaces the first two axes of a label by their diagonal, which becomes the last axis: every (n + 1)-th element of
    /// the two axes as one.
    fn take_diagonal(&mut self, label: Label, extents: &Extents) {
        let mut places = (0..self.labels.len()).filter(|&i| self.labels[i] == label);
        let pair: SmallVec<[usize; 2]> = places.by_ref().take(2).collect();
        let rest: SmallVec<[usize; 8]> =
            (0..self.labels.len()).filter(|i| !pair.contains(i)).collect();
        let perm = rest.iter().chain(&pair).map(|&i| i64::try_from(i).unwrap_or(0)).collect();
        let labels: Labels = rest.iter().map(|&i| self.labels[i]).collect();
        let n = extents.product(&[label]);
        // The other axes still have their own extents, of which those under an ellipsis may be 1.
        let own = self.value.shape();
        let mut shape: Shape = rest.iter().map(|&i| own.get(i).copied().unwrap_or(1)).collect();
        shape.push(n * n);
        let flat = self.value.op(&TRANSPOSE, Permutation { perm }.write(), &[]).reshape(&shape);
        let mut strides = Ints::from_elem(1, shape.len());
        strides[shape.len() - 1] = i64::try_from(n + 1).unwrap_or(i64::MAX);
        let all = (1 << shape.len()) - 1;
        let zeros = Ints::from_elem(0, shape.len());
        let diagonal = Strided {
            begin: zeros.clone(),
            end: zeros,
            strides,
            begin_mask: all,
            end_mask: all,
            ellipsis_mask: 0,
            new_axis_mask: 0,
            shrink_axis_mask: 0,
        };
        self.value = flat.op(&STRIDED_SLICE, diagonal.write(), &[]);
        self.labels = labels;
        self.labels.push(label);
    }

    /// Sums over the axes whose labels are not kept.
    fn keep(&mut self, kept: impl Fn(Label) -> bool) {
        let gone: SmallVec<[usize; 8]> =
            (0..self.labels.len()).filter(|&i| !kept(self.labels[i])).collect();
        self.value = self.value.reduce(&REDUCE_SUM, &gone, false);
        self.labels.retain(|label| kept(*label));
    }

    /// The tensor with its axes in this order.
    fn arranged(&self, labels: &[Label]) -> Var<'g> {
        if self.labels[..] == *labels {
            return self.value;
        }
        let place = |label| self.labels.iter().position(|own| own == label);
        let perm = labels
            .iter()
            .map(|label| i64::try_from(place(label).unwrap_or(0)).unwrap_or(0))
            .collect();
        self.value.op(&TRANSPOSE, Permutation { perm }.write(), &[])
    }

    /// A batch of matrices with these axes as rows and columns, and whether it is to be read as transposed.
    fn matrices(&self, [batch, rows, columns]: [&Labels; 3], extents: &Extents) -> (Var<'g>, bool) {
        let joined = |parts: [&Labels; 3]| parts.into_iter().flatten().copied().collect::<Labels>();
        let turned = joined([batch, columns, rows]);
        let transposed = self.labels == turned;
        let (first, second) = if transposed { (columns, rows) } else { (rows, columns) };
        let shape = [batch, first, second].map(|labels| extents.product(labels));
        (self.arranged(&joined([batch, first, second])).reshape(&shape.into()), transposed)
    }

    /// The product with another operand, summed over the labels that are not kept.
    fn contract(
        mut self,
        mut other: Self,
        extents: &Extents,
        kept: impl Fn(Label) -> bool,
    ) -> Self {
        self.keep(|label| kept(label) || other.labels.contains(&label));
        other.keep(|label| kept(label) || self.labels.contains(&label));
        let select = |from: &Labels, f: &dyn Fn(Label) -> bool| -> Labels {
            from.iter().copied().filter(|&label| f(label)).collect()
        };
        let shared = |label| other.labels.contains(&label);
        let batch = select(&self.labels, &|label| shared(label) && kept(label));
        let summed = select(&self.labels, &|label| shared(label) && !kept(label));
        let rows = select(&self.labels, &|label| !shared(label));
        let columns = select(&other.labels, &|label| !self.labels.contains(&label));
        let (a, transpose_a) = self.matrices([&batch, &rows, &summed], extents);
        let (b, transpose_b) = other.matrices([&batch, &summed, &columns], extents);
        let product = if summed.is_empty() {
            // [batch, rows, 1] times [batch, 1, columns], whichever way round their axes of extent 1 lie.
            let [n, i, j] = [&batch, &rows, &columns].map(|labels| extents.product(labels));
            a.reshape(&[n, i, 1].into()) * b.reshape(&[n, 1, j].into())
        } else {
            a.matmul(b, transpose_a, transpose_b)
        };
        let labels: Labels = [batch, rows, columns].into_iter().flatten().collect();
        Self { value: product.reshape(&extents.of(&labels)), labels }
    }
}

fn read(call: &Call) -> Result<(Equation, Extents), Error> {
    let shapes: Vec<Shape> = call.inputs.iter().map(|input| input.shape.clone()).collect();
    parse(&Einsum::read(call.attrs).equation, &shapes)
}

fn parse(text: &str, shapes: &[Shape]) -> Result<(Equation, Extents), Error> {
    let ranks: SmallVec<[usize; 4]> = shapes.iter().map(|shape| shape.len()).collect();
    let equation = Equation::parse(text, &ranks)?;
    let extents = equation.extents(shapes)?;
    Ok((equation, extents))
}

fn expand<'g>(r: &Rule<'g>) -> Vars<'g> {
    let shapes: Vec<Shape> = r.x.iter().map(|x| x.shape()).collect();
    // Inference has parsed the same before.
    let Ok((equation, extents)) = parse(&Einsum::read(r.attrs).equation, &shapes) else {
        return r.x[..1].into();
    };
    let mut operands =
        r.x.iter().zip(&equation.terms).map(|(&x, term)| Operand::new(x, term, &extents));
    let Some(mut product) = operands.next() else { return smallvec![] };
    for (i, operand) in operands.enumerate() {
        let later = &equation.terms[i + 2..];
        let kept = |label| {
            equation.output.contains(&label) || later.iter().any(|term| term.contains(&label))
        };
        product = product.contract(operand, &extents, kept);
    }
    product.keep(|label| equation.output.contains(&label));
    smallvec![product.arranged(&equation.output)]
}

fn equation(text: &str) -> Vec<(&'static str, Attr)> {
    vec![("equation", Attr::Text(text.into()))]
}

/// Einstein summation.
pub static EINSUM: OpDef = OpDef {
    family: "linalg",
    inputs: &["x"],
    variadic: true,
    attrs: Einsum::SPECS,
    dtypes: DTypes::NUMERIC,
    infer: |call| {
        let Some(first) = call.inputs.first() else {
            return Err(Error::InputCount { expected: "1 or more", given: 0 });
        };
        call.inputs.iter().try_for_each(|input| common_dtype(first, input).map(drop))?;
        let (equation, extents) = read(call)?;
        Ok(smallvec![Aval { dtype: first.dtype, shape: extents.of(&equation.output) }])
    },
    samples: &[
        sample_with(&[uniform(&[2, 3], -1.0, 1.0), uniform(&[3, 2], -1.0, 1.0)], || {
            equation("ij,jk->ik")
        }),
        sample_with(&[uniform(&[2, 3, 3], -1.0, 1.0)], || equation("ijj->ji")),
        sample_with(&[uniform(&[2, 3], -1.0, 1.0), uniform(&[4, 3], -1.0, 1.0)], || {
            equation("ij,kj->")
        }),
        sample_with(&[uniform(&[2, 1, 3], -1.0, 1.0), uniform(&[2, 3, 2], -1.0, 1.0)], || {
            equation("...ij,...jk->k...i")
        }),
        sample_with(
            &[uniform(&[2], -1.0, 1.0), uniform(&[3], -1.0, 1.0), uniform(&[2, 3], -1.0, 1.0)],
            || equation("i,j,ij->ij"),
        ),
    ],
    ..family::unary(
        "einsum",
        "Sum of products of tensors with named axes, by Einstein's convention.",
        "y[output labels] = sum over the other labels of the product of the inputs",
        Kernel::Composite(expand),
        Derivative::None,
    )
};
