//! The classifier: 1,797 images of handwritten digits, two dense layers, Adam.

use anyhow::{Result, ensure};
use clap::Args;
use gradtape_client::{Optimizer, Session, Tensor, TensorData};

use crate::{
    model::{Activation, Model},
    progress::{Moment, Progress},
};

/// The images and labels; `data/README.md` says where they come from.
const DATA: &[u8] = include_bytes!("../data/digits.bin");

/// Pixels of an image: 8 by 8.
const PIXELS: usize = 64;

/// The greatest brightness of a pixel.
const BRIGHTEST: f32 = 16.0;

/// How to train.
#[derive(Debug, Args)]
pub(crate) struct Training {
    /// How often to go through the training images.
    #[arg(long, default_value_t = 30)]
    epochs: u32,
    /// Images in a step.
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Size of Adam's steps.
    #[arg(long, default_value_t = 0.002)]
    learning_rate: f64,
    /// Seed of the first weights, the split and the order of the images.
    #[arg(long, default_value_t = 7)]
    seed: u32,
    /// Share of held-out images to classify correctly.
    #[arg(long, default_value_t = 0.96)]
    target: f64,
}

/// Images with their digits.
struct Images {
    pixels: Vec<f32>,
    labels: Vec<i64>,
}

/// Trains, and says whether the target was reached.
pub(crate) async fn train(
    session: &Session,
    training: &Training,
    progress: &Progress,
) -> Result<bool> {
    ensure!(training.batch_size > 0, "a step needs at least one image");
    let mut random = fastrand::Rng::with_seed(training.seed.into());
    let images = Images::load();
    let mut order: Vec<usize> = (0..images.labels.len()).collect();
    random.shuffle(&mut order);
    let (learn, held_out) = order.split_at_mut(images.labels.len() * 4 / 5);

    let generator = session.generator(training.seed.into());
    let model = Model::default().dense(session, &generator, [64, 64], Activation::Relu).dense(
        session,
        &generator,
        [64, 10],
        Activation::Linear,
    );
    let variables = model.trainable_variables();
    let optimizer = Optimizer::adam(session).learning_rate(training.learning_rate).create();

    let test = images.to_session(session, held_out);
    let steps = u64::from(training.epochs) * learn.len().div_ceil(training.batch_size) as u64;
    let mut run = progress.run(steps);
    let mut accuracy = 0.0;
    for epoch in 1..=training.epochs {
        random.shuffle(learn);
        let mut loss = None;
        for batch in learn.chunks(training.batch_size) {
            let (x, labels) = images.to_session(session, batch);
            let tape = session.tape();
            let losses = labels.sparse_softmax_cross_entropy_with_logits(model.call(&x));
            let mean = losses.reduce_mean();
            let gradients = tape.gradient([&mean], &variables);
            optimizer.apply(gradients.iter().zip(&variables));
            loss = Some(mean);
            run.step();
        }
        accuracy = self::accuracy(&model, &test).await?;
        // Also tells of a step that failed.
        session.sync().await?;
        let loss = match loss {
            Some(loss) => loss.scalar().await?,
            None => f32::NAN,
        };
        run.epoch(Moment { epoch, loss, accuracy });
    }
    let (time, rate) = run.finish();
    let passed = accuracy >= training.target;
    progress.say(&format!(
        "\ndigits: {:.2} % of {} held-out images in {:.1} s, {rate:.0} steps/s: {}",
        accuracy * 100.0,
        held_out.len(),
        time.as_secs_f64(),
        if passed { "target reached" } else { "target missed" },
    ));
    Ok(passed)
}

/// The share of images that the model classifies correctly.
async fn accuracy(model: &Model, (x, labels): &(Tensor, Tensor)) -> Result<f64> {
    let classes = model.call(x).argmax_with(gradtape_client::ops::Argmax { axis: 1 });
    let right = classes.equal(labels).cast(gradtape_client::DType::F64);
    Ok(right.reduce_mean().scalar().await?)
}

// === impl Images ===

impl Images {
    fn load() -> Self {
        let (images, rest) = DATA.as_chunks::<{ PIXELS + 1 }>();
        assert!(rest.is_empty(), "the data file holds whole images");
        let pixels = images.iter().flat_map(|image| &image[..PIXELS]);
        Self {
            pixels: pixels.map(|&pixel| f32::from(pixel) / BRIGHTEST).collect(),
            labels: images.iter().map(|image| image[PIXELS].into()).collect(),
        }
    }

    /// Sends some of the images and their labels to the server.
    fn to_session(&self, session: &Session, which: &[usize]) -> (Tensor, Tensor) {
        let rows = which.iter().flat_map(|&i| &self.pixels[i * PIXELS..][..PIXELS]);
        let pixels: Vec<f32> = rows.copied().collect();
        let labels: Vec<i64> = which.iter().map(|&i| self.labels[i]).collect();
        let pixels = TensorData::new([count(which), 64], &pixels);
        (session.constant(pixels), session.constant(labels))
    }
}

fn count(images: &[usize]) -> i64 {
    i64::try_from(images.len()).expect("the data set has fewer than 2^63 images")
}
