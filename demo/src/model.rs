//! Dense layers, as a program would write them on top of the client.

use gradtape_client::{Generator, Session, Tensor, Variable, VariableOptions};

/// What comes after a layer's sum.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Activation {
    Linear,
    Relu,
}

/// A fully connected layer.
#[derive(Debug)]
struct Dense {
    kernel: Variable,
    bias: Variable,
    activation: Activation,
}

/// Layers, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Model {
    layers: Vec<Dense>,
}

impl Dense {
    #[expect(clippy::cast_precision_loss, reason = "layers are far smaller than 2^52")]
    fn new(
        session: &Session,
        generator: &Generator,
        [inputs, outputs]: [i64; 2],
        activation: Activation,
    ) -> Self {
        // After Glorot, so that signals neither fade nor grow from layer to layer.
        let limit = (6.0 / (inputs + outputs) as f64).sqrt();
        let kernel = (generator.uniform([inputs, outputs]) * 2.0 - 1.0) * limit;
        let bias = session.full([outputs]);
        let options = VariableOptions::default();
        Self {
            kernel: session.variable_with("kernel", &kernel, options),
            bias: session.variable_with("bias", &bias, options),
            activation,
        }
    }

    fn call(&self, x: &Tensor) -> Tensor {
        let y = x.matmul(&self.kernel) + &self.bias;
        match self.activation {
            Activation::Linear => y,
            Activation::Relu => y.relu(),
        }
    }
}

impl Model {
    /// Adds a layer.
    pub(crate) fn dense(
        mut self,
        session: &Session,
        generator: &Generator,
        shape: [i64; 2],
        activation: Activation,
    ) -> Self {
        self.layers.push(Dense::new(session, generator, shape, activation));
        self
    }

    /// Applies the layers.
    pub(crate) fn call(&self, x: &Tensor) -> Tensor {
        self.layers.iter().fold(x.clone(), |x, layer| layer.call(&x))
    }

    /// The variables, layer by layer, kernel before bias.
    pub(crate) fn trainable_variables(&self) -> Vec<Variable> {
        let pairs = self.layers.iter().map(|layer| [layer.kernel.clone(), layer.bias.clone()]);
        pairs.flatten().collect()
    }
}
