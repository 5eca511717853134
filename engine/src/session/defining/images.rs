//! Functions as images hold them.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Body, Capture, Step, definition::price};
use crate::{
    command::Handle,
    error::Error,
    image::{BodyImage, CaptureImage},
    ledger::Ledger,
};

/// Bodies on their way into an image, each once.
#[derive(Debug, Default)]
pub(in crate::session) struct Bodies {
    numbers: HashMap<*const Body, usize>,
    pub(in crate::session) images: Vec<BodyImage>,
}

impl Bodies {
    /// The number of a body, which is put behind those that it captures. They are nested no deeper than functions may be.
    pub(in crate::session) fn number(&mut self, body: &Arc<Body>) -> usize {
        if let Some(&number) = self.numbers.get(&Arc::as_ptr(body)) {
            return number;
        }
        let steps = body.steps.iter().map(|step| {
            let captures = step.captures.iter().map(|capture| self.capture(capture)).collect();
            (captures, Arc::clone(&step.command))
        });
        let steps = steps.collect();
        let last = body.last.iter().map(|capture| self.capture(capture)).collect();
        self.images.push(BodyImage {
            parameters: body.parameters.clone(),
            steps,
            results: body.results.clone(),
            specs: body.specs.clone(),
            last,
            references: body.references.clone(),
            depth: body.depth,
        });
        self.numbers.insert(Arc::as_ptr(body), self.images.len() - 1);
        self.images.len() - 1
    }

    fn capture(&mut self, (handle, capture): &(Handle, Capture)) -> (Handle, CaptureImage) {
        let image = match capture {
            Capture::Value(value) => CaptureImage::Value(value.clone()),
            Capture::Absent(reason) => CaptureImage::Absent(*reason),
            Capture::Reference(id) => CaptureImage::Reference(*id),
            Capture::Function(body) => CaptureImage::Function(self.number(body)),
        };
        (*handle, image)
    }
}

/// The bodies of an image, paid for by `ledger`.
pub(in crate::session) fn bodies(
    ledger: &Arc<Ledger>,
    images: Vec<BodyImage>,
) -> Result<Vec<Arc<Body>>, Error> {
    let mut bodies: Vec<Arc<Body>> = Vec::with_capacity(images.len());
    for image in images {
        let mut charges = Vec::with_capacity(image.steps.len());
        let mut steps = Vec::with_capacity(image.steps.len());
        for (captures, command) in image.steps {
            charges.push(ledger.reserve(price(&command))?);
            let captures = captures.into_iter().map(|capture| captured(&bodies, capture));
            steps.push(Step { captures: captures.collect::<Result<_, Error>>()?, command });
        }
        let last = image.last.into_iter().map(|capture| captured(&bodies, capture));
        let last = last.collect::<Result<_, Error>>()?;
        bodies.push(Arc::new(Body {
            parameters: image.parameters,
            steps,
            results: image.results,
            specs: image.specs,
            last,
            references: image.references,
            depth: image.depth,
            charges,
        }));
    }
    Ok(bodies)
}

fn captured(
    bodies: &[Arc<Body>],
    (handle, image): (Handle, CaptureImage),
) -> Result<(Handle, Capture), Error> {
    let capture = match image {
        CaptureImage::Value(value) => Capture::Value(value),
        CaptureImage::Absent(reason) => Capture::Absent(reason),
        CaptureImage::Reference(id) => Capture::Reference(id),
        CaptureImage::Function(number) => {
            let body = bodies.get(number).ok_or_else(|| Error::Malformed {
                what: "image".into(),
                why: "a function is named before its body".into(),
            })?;
            Capture::Function(Arc::clone(body))
        }
    };
    Ok((handle, capture))
}
