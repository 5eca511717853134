//! The models, through the client: the same shapes, first values and data as in `peers/_models.py`.

use anyhow::Result;
use gradtape_client::{
    Function, Optimizer, Session, Tensor, TensorData, Variable,
    ops::{Convolution, LayerNormalization, MaxPool, ScaledDotProductAttention, Split},
};

use super::{Contender, Setting, numbers, row, seconds};

const BATCHES: u32 = 8;

/// A model as data.
#[derive(Clone, Copy)]
pub(super) struct Model {
    parameters: fn() -> Vec<TensorData>,
    batch: fn(u32) -> (TensorData, TensorData),
    forward: fn(&[Variable], &Tensor) -> Tensor,
    /// Elements of what a step must remember from the forward pass for the backward pass, inputs and labels included.
    pub(super) remembered: fn() -> i64,
}

/// Two dense layers.
pub(super) const MLP: Model = Model {
    parameters: || {
        numbers::parameters(&[
            (vec![784, 128], 784),
            (vec![128], 0),
            (vec![128, 10], 128),
            (vec![10], 0),
        ])
    },
    batch: |n| {
        let labels = numbers::classes(2000 + n, &[128], 10);
        (numbers::uniform(1000 + n, &[128, 784], 1.0), TensorData::from(labels))
    },
    forward: |p, x| (x.matmul(&p[0]) + &p[1]).relu().matmul(&p[2]) + &p[3],
    // Inputs, what relu gave, the softmax, labels.
    remembered: || 128 * (784 + 128 + 10 + 1),
};

/// Two convolutions and a dense layer.
pub(super) const CNN: Model = Model {
    parameters: || {
        numbers::parameters(&[
            (vec![3, 3, 1, 32], 9),
            (vec![32], 0),
            (vec![3, 3, 32, 64], 9 * 32),
            (vec![64], 0),
            (vec![7 * 7 * 64, 10], 7 * 7 * 64),
            (vec![10], 0),
        ])
    },
    batch: |n| {
        let labels = numbers::classes(2000 + n, &[64], 10);
        (numbers::uniform(1000 + n, &[64, 28, 28, 1], 1.0), TensorData::from(labels))
    },
    forward: |p, x| {
        let x = convolution(&convolution(x, &p[0], &p[1]), &p[2], &p[3]);
        x.reshape([64, 7 * 7 * 64]).matmul(&p[4]) + &p[5]
    },
    // Inputs; of both convolutions what relu and what the pool gave; the softmax; labels.
    remembered: || 64 * (28 * 28 + (28 * 28 + 14 * 14) * 32 + (14 * 14 + 7 * 7) * 64 + 10 + 1),
};

/// A transformer.
pub(super) const GPT: Model = Model {
    parameters: gpt_parameters,
    batch: |n| {
        let rows = numbers::classes(1000 + n, &[16, 65], 65);
        let rows: Vec<&[i32]> = rows.chunks(65).collect();
        let part = |range: std::ops::Range<usize>| {
            let ids: Vec<i32> = rows.iter().flat_map(|row| &row[range.clone()]).copied().collect();
            TensorData::new([16, 64], &ids)
        };
        (part(0..64), part(1..65))
    },
    forward: gpt,
    // Of a block: what both norms normalised (and its root) and gave, queries, keys and values, weights, what attention
    // gave, both sides of gelu; then the last norm's, the softmax, ids and labels.
    remembered: || {
        let places = 16 * 64;
        let block = places * (2 * (64 + 1 + 64) + 3 * 64 + 4 * 64 + 64 + 2 * 256);
        2 * block + places * (64 + 1 + 64 + 65 + 2)
    },
};

/// A model that is being trained.
pub(super) struct Training {
    model: Model,
    parameters: Vec<Variable>,
    batches: Vec<(Tensor, Tensor)>,
    optimizer: Optimizer,
    session: Session,
}

impl Training {
    /// Makes parameters and sends the data.
    pub(super) fn new(session: &Session, model: Model, batches: u32) -> Self {
        let parameters = (model.parameters)();
        let parameters = parameters.into_iter().map(|value| session.variable("", value)).collect();
        let batches = (0..batches).map(|n| {
            let (x, y) = (model.batch)(n);
            (session.constant(x), session.constant(y))
        });
        let batches = batches.collect();
        let optimizer = Optimizer::adam(session).learning_rate(1e-3).epsilon(1e-8).create();
        Self { model, parameters, batches, optimizer, session: session.clone() }
    }

    /// Takes a step on the batch of this number and gives the loss.
    pub(super) fn step(&self, number: usize) -> Tensor {
        let (x, y) = &self.batches[number % self.batches.len()];
        self.step_on(x, y)
    }

    /// The same step as a function of the server, of inputs and labels.
    fn function(&self) -> Function {
        let (x, y) = (self.model.batch)(0);
        let specs = [x.spec().clone(), y.spec().clone()];
        self.session.function(specs, |batch| vec![self.step_on(&batch[0], &batch[1])])
    }

    fn step_on(&self, x: &Tensor, y: &Tensor) -> Tensor {
        let tape = self.session.tape();
        let scores = (self.model.forward)(&self.parameters, x);
        let loss = y.sparse_softmax_cross_entropy_with_logits(&scores).reduce_mean();
        let gradients = tape.gradient([&loss], &self.parameters);
        // Whether it went well shows in the losses that are read.
        drop(self.optimizer.apply(gradients.iter().zip(&self.parameters)));
        loss
    }
}

/// Elements of all parameters.
pub(super) fn parameter_elements(model: Model) -> i64 {
    (model.parameters)().iter().map(|value| value.shape().iter().product::<i64>()).sum()
}

/// Eager steps through the client.
pub(super) fn eager(setting: &Setting, model: Model) -> Result<Contender> {
    let training = Training::new(&setting.session()?, model, BATCHES);
    trained(setting, "eager commands", move |number| training.step(number))
}

/// One call of a function for each step.
pub(super) fn function(setting: &Setting, model: Model) -> Result<Contender> {
    let training = Training::new(&setting.session()?, model, BATCHES);
    let function = training.function();
    trained(setting, "one function call a step", move |number| {
        // All of it moves in: its variables live as long as the function that reads them.
        let training = &training;
        let (x, y) = &training.batches[number % training.batches.len()];
        function.call([x, y]).remove(0)
    })
}

fn trained(
    setting: &Setting,
    how: &'static str,
    step: impl Fn(usize) -> Tensor + 'static,
) -> Result<Contender> {
    let steps = if setting.quick { 10 } else { 50 };
    let first = async {
        let mut losses = Vec::new();
        for number in 0..5 {
            losses.push(step(number).scalar::<f32>().await?.into());
        }
        Ok::<_, anyhow::Error>(losses)
    };
    let outcome = setting.runtime.block_on(first)?;
    let note = format!(
        "warm-up {} steps; a sample is {steps} steps, with one loss read; {how}, batches resident in the session",
        5 + steps
    );
    let sample = move |setting: &Setting| {
        let work = async {
            let mut loss = None;
            for number in 0..steps {
                loss = Some(step(number));
            }
            if let Some(loss) = loss {
                loss.scalar::<f32>().await?;
            }
            Ok(())
        };
        #[expect(clippy::cast_precision_loss, reason = "there are few steps")]
        let taken = seconds(|| setting.runtime.block_on(work))? / steps as f64;
        Ok(row("step", taken))
    };
    sample(setting)?;
    let mut contender = Contender::new(note, sample);
    contender.outcome = outcome;
    Ok(contender)
}

fn convolution(x: &Tensor, kernel: &Variable, bias: &Variable) -> Tensor {
    let same = Convolution { padding: "SAME".to_owned(), ..Default::default() };
    let halved = MaxPool { strides: vec![2, 2], ..Default::default() };
    (x.convolution_with(kernel, same) + bias).relu().max_pool_with([2, 2], halved)
}

fn gpt_parameters() -> Vec<TensorData> {
    let norm = [(vec![64], -1), (vec![64], 0)];
    let rest_of_attention =
        [(vec![64, 192], 64), (vec![192], 0), (vec![64, 64], 64), (vec![64], 0)];
    let dense = [(vec![64, 256], 64), (vec![256], 0), (vec![256, 64], 256), (vec![64], 0)];
    let block = [&norm[..], &rest_of_attention, &norm, &dense].concat();
    let tables = [(vec![65, 64], 64), (vec![64, 64], 64)];
    let head = [(vec![64, 65], 64), (vec![65], 0)];
    numbers::parameters(&[&tables[..], &block, &block, &norm, &head].concat())
}

fn gpt(p: &[Variable], ids: &Tensor) -> Tensor {
    let mut x = p[0].gather(ids) + &p[1];
    for block in p[2..26].chunks(12) {
        x = gpt_block(&x, block);
    }
    norm(&x, &p[26], &p[27]).matmul(&p[28]) + &p[29]
}

fn gpt_block(x: &Tensor, p: &[Variable]) -> Tensor {
    let qkv = norm(x, &p[0], &p[1]).matmul(&p[2]) + &p[3];
    let apart = Split { axis: -1 };
    let heads = |x: &Tensor| x.reshape([16, 64, 4, 16]);
    let parts: Vec<Tensor> = qkv.split_with(3, apart).iter().map(heads).collect();
    let causal = ScaledDotProductAttention {
        causal: true,
        qkv_layout: "BTNH".to_owned(),
        ..Default::default()
    };
    let everything = x.session().constant(true);
    let y = parts[0].scaled_dot_product_attention_with(&parts[1], &parts[2], &everything, causal);
    let y = y.reshape([16, 64, 64]);
    let x = x + (y.matmul(&p[4]) + &p[5]);
    let y = (norm(&x, &p[6], &p[7]).matmul(&p[8]) + &p[9]).gelu();
    x + (y.matmul(&p[10]) + &p[11])
}

fn norm(x: &Tensor, gain: &Variable, offset: &Variable) -> Tensor {
    let options = LayerNormalization { epsilon: 1e-5, ..Default::default() };
    x.layer_normalization_with(gain, offset, options)
}
