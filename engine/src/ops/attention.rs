//! Attention, and its gradients as an op of its own: neither keeps a number for each query and key.

use smallvec::smallvec;

use crate::{
    array::{Array, overwritten},
    attrs,
    attrs::Attr,
    aval::{Aval, Avals, Shape},
    batching::{Batch, Batching},
    dtype::DType,
    error::Error,
    kernels::attention::{self, Extents, Layout, Mask, Scalar, Stack},
    op::{Arrays, Call, Cost, Derivative, Kernel, OpDef, Reads, Vars},
    ops::family::{
        self, by_dtype, common_dtype, common_shape, sample, sample_with, truth, uniform,
    },
};

mod rules;
#[cfg(test)]
mod tests;

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&SCALED_DOT_PRODUCT_ATTENTION, &SCALED_DOT_PRODUCT_ATTENTION_GRADIENT];

attrs! {
    /// Attributes of attention.
    Attention {
        /// Factor of the products; 0 for 1 / sqrt(depth).
        scale: f64 = Double(0.0),
        /// Whether each query sees only the keys up to its own place.
        causal: bool = Bool(false),
        /// How queries, keys, values and the result lie: "BNTH" is [batch..., heads, places, depth], and "BTNH" is
        /// [batch..., places, heads, depth].
        qkv_layout: String = Text("BNTH"),
    }
}

impl Attention {
    pub(super) fn layout(&self) -> Result<Layout, Error> {
        match self.qkv_layout.as_str() {
            "BNTH" => Ok(Layout::HeadsFirst),
            "BTNH" => Ok(Layout::PlacesFirst),
            _ => Err(Error::attribute("qkv_layout", "must be BNTH or BTNH")),
        }
    }

    /// The factor of the products of queries and keys of this length.
    #[expect(clippy::cast_precision_loss, reason = "a depth is a small number")]
    pub(super) fn scale(&self, depth: usize) -> f64 {
        if self.scale == 0.0 { 1.0 / (depth.max(1) as f64).sqrt() } else { self.scale }
    }
}

/// What is known of a call before it runs.
pub(super) struct Shapes {
    pub(super) layout: Layout,
    /// Batch and heads, to which all inputs broadcast.
    pub(super) heads: Shape,
    queries: usize,
    keys: usize,
    depth: usize,
    /// Length of values.
    width: usize,
    causal: bool,
}

impl Shapes {
    pub(super) fn of(attrs: &Attention, inputs: &[Aval]) -> Result<Self, Error> {
        let [query, key, value, mask, ..] = inputs else {
            return Err(Error::bug("attention takes four inputs"));
        };
        common_dtype(query, key)?;
        common_dtype(query, value)?;
        let layout = attrs.layout()?;
        let misfit = |other: &Aval, expected| Error::ShapeMismatch {
            lhs: query.shape.clone(),
            rhs: other.shape.clone(),
            expected,
        };
        let parts = |x: &Aval| {
            let least = match layout {
                Layout::HeadsFirst => "all must have two axes or more",
                Layout::PlacesFirst => "all must have three axes or more",
            };
            layout.parts(&x.shape).ok_or_else(|| misfit(x, least))
        };
        let (query_heads, queries, depth) = parts(query)?;
        let (key_heads, keys, key_depth) = parts(key)?;
        let (value_heads, values, width) = parts(value)?;
        if depth != key_depth {
            return Err(misfit(key, "queries and keys must have the same depth"));
        }
        if keys != values {
            return Err(misfit(value, "there must be as many values as keys"));
        }
        let heads = common_shape(&common_shape(&query_heads, &key_heads)?, &value_heads)?;
        let causal = attrs.causal;
        let this = Self { layout, heads, queries, keys, depth, width, causal };
        if mask.dtype != DType::Bool {
            common_dtype(query, mask)?;
        }
        let products = this.products();
        if common_shape(&products, &mask.shape)? != products {
            let (lhs, rhs) = (products, mask.shape.clone());
            let expected = "the mask must broadcast to [batch..., heads, queries, keys]";
            return Err(Error::ShapeMismatch { lhs, rhs, expected });
        }
        Ok(this)
    }

    /// The shape of the products, which is also what a mask must broadcast to.
    pub(super) fn products(&self) -> Shape {
        Layout::HeadsFirst.shape((&self.heads, self.queries, self.keys))
    }

    /// The shapes of what belongs to queries, keys, values, and results.
    fn all(&self) -> [Shape; 4] {
        let Self { queries, keys, depth, width, .. } = *self;
        [(queries, depth), (keys, depth), (keys, width), (queries, width)]
            .map(|(places, length)| self.layout.shape((&self.heads, places, length)))
    }

    fn extents(&self) -> Extents {
        let Self { queries, keys, depth, width, causal: is_causal, .. } = *self;
        Extents { heads: self.heads.elements(), queries, keys, depth, width, is_causal }
    }

    /// What the kernels take.
    fn attention<'a, T: Scalar>(
        &self,
        call: &Call,
        inputs: &[&'a Array],
    ) -> Result<attention::Attention<'a, T>, Error> {
        let stack = |i: usize| self.stack(&call.inputs[i].shape, inputs[i]);
        let mask = &call.inputs[3].shape;
        let mask = if call.inputs[3].dtype == DType::Bool {
            match inputs[3].elements::<bool>()? {
                [true] => Mask::Everything,
                elements => Mask::Truth(Stack::mask(elements, mask, &self.heads)?),
            }
        } else {
            match inputs[3].elements::<T>()? {
                [nothing] if *nothing == T::ZERO => Mask::Everything,
                elements => Mask::Added(Stack::mask(elements, mask, &self.heads)?),
            }
        };
        Ok(attention::Attention {
            extents: self.extents(),
            queries: stack(0)?,
            keys: stack(1)?,
            values: stack(2)?,
            mask,
            scale: Attention::read(call.attrs).scale(self.depth),
        })
    }

    fn stack<'a, T: Scalar>(&self, shape: &Shape, x: &'a Array) -> Result<Stack<'a, T>, Error> {
        Stack::new(x.elements()?, shape, self.layout, &self.heads)
    }
}

/// The price of a call, from that of its extents; nothing for a call that is refused.
fn cost(call: &Call, price: impl Fn(Extents, usize) -> Cost) -> Cost {
    let shapes = Shapes::of(&Attention::read(call.attrs), call.inputs);
    let element = if call.inputs[0].dtype == DType::F64 { 8 } else { 4 };
    shapes.map_or_else(|_| Cost::default(), |shapes| price(shapes.extents(), element))
}

/// Attention, from Vaswani et al. 2017. A primitive for speed and for memory.
pub static SCALED_DOT_PRODUCT_ATTENTION: OpDef = OpDef {
    inputs: &["query", "key", "value", "mask"],
    attrs: Attention::SPECS,
    infer: |call| {
        let [.., shape] = Shapes::of(&Attention::read(call.attrs), call.inputs)?.all();
        Ok(smallvec![Aval { dtype: call.inputs[0].dtype, shape }])
    },
    cost: |call, _| {
        cost(call, |extents, element| Cost {
            flops: extents.flops(),
            workspace: extents.workspace(element),
        })
    },
    batching: Batching::Rule(stacked),
    samples: &[
        sample(&[
            uniform(&[2, 3, 2], -1.0, 1.0),
            uniform(&[2, 4, 2], -1.0, 1.0),
            uniform(&[2, 4, 3], -1.0, 1.0),
            uniform(&[], 0.0, 1.0),
        ]),
        sample_with(
            &[
                uniform(&[2, 3, 2], -1.0, 1.0),
                uniform(&[3, 2], -1.0, 1.0),
                uniform(&[3, 2], -1.0, 1.0),
                truth(&[3, 3]),
            ],
            || vec![("causal", Attr::Bool(true))],
        ),
        sample_with(
            &[
                uniform(&[3, 2], -1.0, 1.0),
                uniform(&[4, 2], -1.0, 1.0),
                uniform(&[4, 2], -1.0, 1.0),
                uniform(&[3, 4], -1.0, 1.0),
            ],
            || vec![("scale", Attr::Double(0.3))],
        ),
        sample_with(
            &[
                uniform(&[2, 3, 2, 2], -1.0, 1.0),
                uniform(&[4, 1, 2], -1.0, 1.0),
                uniform(&[1, 4, 2, 3], -1.0, 1.0),
                uniform(&[2, 1, 4], -1.0, 1.0),
            ],
            || vec![("causal", Attr::Bool(true)), ("qkv_layout", Attr::Text("BTNH".into()))],
        ),
    ],
    ..family::unary(
        "scaled_dot_product_attention",
        "Means of values, weighted by how well the keys fit the query. A mask of truth values says what is seen; \
         one of numbers is added to the products, and 0 hides nothing. It broadcasts to [batch..., heads, queries, keys].",
        "y = softmax(scale query key^T + mask) value",
        Kernel::Run(means),
        Derivative::Custom { reads: Reads::X, vjp: rules::back, jvp: rules::forwards },
    )
};

/// Stacks are one more axis of the batch, which queries, keys or values must have.
fn stacked<'g>(b: &Batch<'_, 'g>) -> Option<Vars<'g>> {
    let mut inputs = b.aligned();
    let rank = (0..inputs.len()).map(|i| b.row(i).len()).max()?;
    let repeated = |i: usize| {
        let row = b.row(i);
        let ones = std::iter::repeat_n(1, rank - row.len());
        let row: Shape = ones.chain(row.iter().copied()).collect();
        b.x[i].broadcast_to(&b.stack_of(&row))
    };
    if !b.stacked[..3].contains(&true) {
        inputs[0] = repeated(0);
    }
    // What flows into the result has its shape.
    if b.stacked.get(4) == Some(&false) {
        inputs[4] = repeated(4);
    }
    b.apply(&inputs, vec![])
}

fn means(call: &Call, out: &[Aval], inputs: &[&Array]) -> Result<Arrays, Error> {
    let shapes = Shapes::of(&Attention::read(call.attrs), call.inputs)?;
    let y = by_dtype!(float: out[0].dtype, T => {
        let attention = shapes.attention::<T>(call, inputs)?;
        let mut y = overwritten(out[0].shape.elements())?;
        attention.means(shapes.layout, &shapes.heads, &mut y)?;
        Array::new(&out[0].shape, y)
    })?;
    Ok(smallvec![y])
}

/// The gradients of attention.
pub static SCALED_DOT_PRODUCT_ATTENTION_GRADIENT: OpDef = OpDef {
    inputs: &["query", "key", "value", "mask", "upstream"],
    outputs: &["query_gradient", "key_gradient", "value_gradient"],
    infer: infer_gradients,
    cost: |call, _| {
        cost(call, |extents, element| Cost {
            flops: extents.gradient_flops(),
            workspace: extents.gradient_workspace(element),
        })
    },
    samples: &[
        sample(&[
            uniform(&[2, 3, 2], -1.0, 1.0),
            uniform(&[2, 4, 2], -1.0, 1.0),
            uniform(&[2, 4, 3], -1.0, 1.0),
            uniform(&[], 0.0, 1.0),
            uniform(&[2, 3, 3], -1.0, 1.0),
        ]),
        sample_with(
            &[
                uniform(&[2, 3, 2], -1.0, 1.0),
                uniform(&[3, 2], -1.0, 1.0),
                uniform(&[3, 2], -1.0, 1.0),
                truth(&[3, 3]),
                uniform(&[2, 3, 2], -1.0, 1.0),
            ],
            || vec![("causal", Attr::Bool(true))],
        ),
        sample_with(
            &[
                uniform(&[2, 3, 2, 2], -1.0, 1.0),
                uniform(&[4, 1, 2], -1.0, 1.0),
                uniform(&[1, 4, 2, 3], -1.0, 1.0),
                uniform(&[2, 1, 4], -1.0, 1.0),
                uniform(&[2, 3, 2, 3], -1.0, 1.0),
            ],
            || {
                vec![
                    ("scale", Attr::Double(0.3)),
                    ("causal", Attr::Bool(true)),
                    ("qkv_layout", Attr::Text("BTNH".into())),
                ]
            },
        ),
    ],
    summary: "The gradients of `scaled_dot_product_attention` with respect to queries, keys and values, from that with respect to \
         its result. Where inputs broadcast, the gradients have the shapes that they broadcast to.",
    formula: "value_gradient = w^T upstream, query_gradient = scale d key, key_gradient = scale d^T query, where \
         w = softmax(scale query key^T + mask) and d = w (upstream value^T - sum of w upstream value^T)",
    kernel: Kernel::Run(gradients),
    derivative: Derivative::Custom {
        reads: Reads::X,
        vjp: rules::gradients_back,
        jvp: rules::gradients_forwards,
    },
    name: "scaled_dot_product_attention_gradient",
    ..SCALED_DOT_PRODUCT_ATTENTION
};

fn infer_gradients(call: &Call) -> Result<Avals, Error> {
    let [query, .., upstream] = call.inputs else {
        return Err(Error::bug("the gradient of attention takes five inputs"));
    };
    let shapes = Shapes::of(&Attention::read(call.attrs), call.inputs)?;
    let [of_query, of_key, of_value, result] = shapes.all();
    common_dtype(query, upstream)?;
    if upstream.shape != result {
        let (lhs, rhs) = (upstream.shape.clone(), result);
        let expected = "upstream must have the shape of the result";
        return Err(Error::ShapeMismatch { lhs, rhs, expected });
    }
    let like = |shape| Aval { dtype: query.dtype, shape };
    Ok([of_query, of_key, of_value].map(like).into_iter().collect())
}

fn gradients(call: &Call, out: &[Aval], inputs: &[&Array]) -> Result<Arrays, Error> {
    let shapes = Shapes::of(&Attention::read(call.attrs), call.inputs)?;
    by_dtype!(float: out[0].dtype, T => {
        let attention = shapes.attention::<T>(call, inputs)?;
        let upstream = shapes.stack(&call.inputs[4].shape, inputs[4])?;
        let [mut query, mut key, mut value] = [
            overwritten(out[0].shape.elements())?,
            overwritten(out[1].shape.elements())?,
            overwritten(out[2].shape.elements())?,
        ];
        let gradients = [&mut query[..], &mut key, &mut value];
        attention.gradients(&upstream, shapes.layout, &shapes.heads, gradients)?;
        let gradients = [query, key, value].into_iter().zip(out);
        gradients.map(|(gradient, out)| Array::new(&out.shape, gradient)).collect()
    })
}
