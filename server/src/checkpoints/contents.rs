//! What the tensors and the metadata of a file mean.
//!
//! A tensor is a variable under its own key unless the metadata names an optimizer or a generator that it belongs to. A file
//! without our metadata is one of another program: all its tensors are variables. `docs/checkpoints.md` describes the format.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gradtape_engine::{
    array::Tensor,
    attrs::Attr,
    aval::Aval,
    dtype::DType,
    ledger::Ledger,
    optimizers::{Counters, Given, Optimizer, schedules::Schedule},
    snapshot::{SavedGenerator, SavedOptimizer, SavedSlot, SavedVariable, Snapshot},
};
use serde::{Deserialize, Serialize};

use super::file::Header;
use crate::session::error::ProtocolError;

/// What begins the keys of our own metadata.
pub const RESERVED: &str = "gradtape.";

/// The version of this format. A reader refuses others.
const FORMAT: &str = "1";

const FORMAT_KEY: &str = "gradtape.format";
const SERVER_KEY: &str = "gradtape.server";
const SEQUENCE_KEY: &str = "gradtape.sequence";
const OPTIMIZERS_KEY: &str = "gradtape.optimizers";
const GENERATORS_KEY: &str = "gradtape.generators";

const ITERATIONS: &str = "iterations";
const LOSS_SCALE: &str = "loss_scale";
const FINITE_STEPS: &str = "finite_steps";

/// What the metadata says of an optimizer.
#[derive(Debug, Serialize, Deserialize)]
struct OptimizerJson {
    name: String,
    hyperparameters: BTreeMap<String, AttrJson>,
    schedule: Option<ScheduleJson>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ScheduleJson {
    name: String,
    attributes: BTreeMap<String, AttrJson>,
}

/// The value of an attribute with its type, since JSON does not tell 1 from 1.0.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AttrJson {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Dtype(String),
    Ints(Vec<i64>),
    Doubles(Vec<f64>),
}

/// Tensors and metadata.
pub type Described = (Vec<(String, Tensor)>, BTreeMap<String, String>);

/// What a file holds besides variables, read from its header and checked against it.
#[derive(Debug, Default)]
pub struct Contents {
    /// By key, without counters and slots.
    optimizers: BTreeMap<String, Optimizer>,
    generators: BTreeSet<String>,
}

fn invalid(why: impl Into<String>) -> ProtocolError {
    ProtocolError::InvalidCheckpoint { why: why.into() }
}

/// The tensors and the metadata of a snapshot that was taken after a command.
pub fn write(
    snapshot: Snapshot,
    sequence: u64,
    remarks: BTreeMap<String, String>,
) -> Result<Described, ProtocolError> {
    let Snapshot { variables, optimizers, generators } = snapshot;
    let mut tensors: Vec<(String, Tensor)> =
        variables.into_iter().map(|saved| (saved.key.into(), saved.tensor)).collect();
    let mut described = BTreeMap::new();
    for SavedOptimizer { key, optimizer, slots } in optimizers {
        let Counters { iterations, loss_scale, finite_steps } = optimizer.counters();
        let numbers = [
            (ITERATIONS, scalar(DType::I64, iterations.to_le_bytes())?),
            (LOSS_SCALE, scalar(DType::F64, loss_scale.to_le_bytes())?),
            (FINITE_STEPS, scalar(DType::I64, finite_steps.to_le_bytes())?),
        ];
        tensors.extend(numbers.map(|(name, tensor)| (format!("{key}.{name}"), tensor)));
        for SavedSlot { variable, slot, tensor } in slots {
            tensors.push((format!("{key}.{slot}.{variable}"), tensor));
        }
        described.insert(key.into_string(), describe(&optimizer));
    }
    let mut listed = Vec::new();
    for SavedGenerator { key, seed, counter } in generators {
        let state = [seed.to_le_bytes(), counter.to_le_bytes()].concat();
        tensors.push((key.to_string(), own(&Aval::new(DType::I64, [2]), &state)?));
        listed.push(key);
    }
    let mut metadata = remarks;
    for (key, value) in [
        (FORMAT_KEY, FORMAT.to_owned()),
        (SERVER_KEY, env!("CARGO_PKG_VERSION").to_owned()),
        (SEQUENCE_KEY, sequence.to_string()),
        (OPTIMIZERS_KEY, json(&described)?),
        (GENERATORS_KEY, json(&listed)?),
    ] {
        metadata.insert(key.to_owned(), value);
    }
    Ok((tensors, metadata))
}

// === impl Contents ===

impl Contents {
    /// Reads and checks what a header says.
    pub fn read(header: &Header) -> Result<Self, ProtocolError> {
        let metadata = &header.metadata;
        match metadata.get(FORMAT_KEY).map(String::as_str) {
            None => return Ok(Self::default()),
            Some(FORMAT) => {}
            Some(other) => {
                return Err(invalid(format!("{FORMAT_KEY} is {other:?}; known is {FORMAT:?}")));
            }
        }
        let described: BTreeMap<String, OptimizerJson> = parse(metadata, OPTIMIZERS_KEY)?;
        let generators: BTreeSet<String> = parse(metadata, GENERATORS_KEY)?;
        let avals: HashMap<&str, &Aval> =
            header.tensors.iter().map(|(key, aval)| (&**key, aval)).collect();
        let expect = |key: &str, expected: &Aval| match avals.get(key) {
            Some(&found) if found == expected => Ok(()),
            Some(found) => Err(invalid(format!("tensor {key:?} is {found}, not {expected}"))),
            None => Err(invalid(format!("tensor {key:?} is missing"))),
        };
        let mut optimizers = BTreeMap::new();
        for (key, json) in described {
            for (name, dtype) in
                [(ITERATIONS, DType::I64), (LOSS_SCALE, DType::F64), (FINITE_STEPS, DType::I64)]
            {
                expect(&format!("{key}.{name}"), &Aval::new(dtype, []))?;
            }
            let optimizer =
                json.build().map_err(|why| invalid(format!("optimizer {key:?}: {why}")))?;
            optimizers.insert(key, optimizer);
        }
        for key in &generators {
            expect(key, &Aval::new(DType::I64, [2]))?;
        }
        Ok(Self { optimizers, generators })
    }

    /// The snapshot that a file's tensors make.
    pub fn assemble(self, tensors: Vec<(String, Tensor)>) -> Result<Snapshot, ProtocolError> {
        let mut snapshot = Snapshot::default();
        let mut numbers: HashMap<String, Tensor> = HashMap::new();
        let mut slots: BTreeMap<&str, Vec<SavedSlot>> = BTreeMap::new();
        for (key, tensor) in tensors {
            if let Some((optimizer, below)) = self.owner(&key) {
                if let Some((slot, variable)) = below.split_once('.') {
                    let (slot, variable) = (slot.into(), variable.into());
                    slots.entry(optimizer).or_default().push(SavedSlot { variable, slot, tensor });
                } else {
                    numbers.insert(key, tensor);
                }
            } else if self.generators.contains(&key) {
                numbers.insert(key, tensor);
            } else {
                snapshot.variables.push(SavedVariable { key: key.into(), tensor });
            }
        }
        for (key, optimizer) in &self.optimizers {
            let [iterations] = ints(&numbers, &format!("{key}.{ITERATIONS}"))?;
            let [finite_steps] = ints(&numbers, &format!("{key}.{FINITE_STEPS}"))?;
            let loss_scale = numbers.get(&format!("{key}.{LOSS_SCALE}"));
            let loss_scale = loss_scale.and_then(|tensor| tensor.array().elements().ok()?.first());
            let loss_scale = *loss_scale.ok_or_else(|| invalid("a loss scale is missing"))?;
            let counters = Counters { iterations, loss_scale, finite_steps };
            let optimizer = optimizer.clone().resumed(counters);
            let optimizer =
                optimizer.map_err(|why| invalid(format!("optimizer {key:?}: {why}")))?;
            let slots = slots.remove(key.as_str()).unwrap_or_default();
            let key = key.as_str().into();
            snapshot.optimizers.push(SavedOptimizer { key, optimizer, slots });
        }
        for key in &self.generators {
            let [seed, counter] = ints(&numbers, key)?;
            let key = key.as_str().into();
            snapshot.generators.push(SavedGenerator { key, seed, counter });
        }
        Ok(snapshot)
    }

    /// The optimizer that a tensor belongs to, and what its key says below that of the optimizer.
    fn owner<'a, 'k>(&'a self, key: &'k str) -> Option<(&'a str, &'k str)> {
        // From the shortest prefix on that ends before a dot: keys of optimizers do not lie below each other.
        key.match_indices('.').find_map(|(dot, _)| {
            let (optimizer, _) = self.optimizers.get_key_value(&key[..dot])?;
            Some((optimizer.as_str(), &key[dot + 1..]))
        })
    }
}

/// Kind, hyperparameters and schedule of an optimizer as text, without counters and slots.
pub fn describe_optimizer(optimizer: &Optimizer) -> Result<String, ProtocolError> {
    json(&describe(optimizer))
}

/// The optimizer that such a text describes, before its first step.
pub fn read_optimizer(text: &str) -> Result<Optimizer, ProtocolError> {
    let json: OptimizerJson =
        serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    json.build().map_err(invalid)
}

// === impl OptimizerJson ===

impl OptimizerJson {
    fn build(self) -> Result<Optimizer, String> {
        let given = |attributes: BTreeMap<String, AttrJson>| {
            let pair = |(name, value): (String, AttrJson)| Ok((name, value.into_attr()?));
            attributes.into_iter().map(pair).collect::<Result<Given, String>>()
        };
        let text = |error: gradtape_engine::error::Error| error.to_string();
        let schedule = self
            .schedule
            .map(|json| Schedule::new(&json.name, given(json.attributes)?).map_err(text))
            .transpose()?;
        Optimizer::new(&self.name, given(self.hyperparameters)?, schedule).map_err(text)
    }
}

// === impl AttrJson ===

impl AttrJson {
    fn new(attr: &Attr) -> Option<Self> {
        Some(match attr {
            Attr::Unset | Attr::Bodies(_) => return None,
            Attr::Bool(value) => Self::Bool(*value),
            Attr::Int(value) => Self::Int(*value),
            Attr::Double(value) => Self::Double(*value),
            Attr::Text(value) => Self::Text(value.to_string()),
            Attr::DType(value) => Self::Dtype(value.name().to_owned()),
            Attr::Ints(values) => Self::Ints(values.to_vec()),
            Attr::Doubles(values) => Self::Doubles(values.to_vec()),
        })
    }

    fn into_attr(self) -> Result<Attr, String> {
        Ok(match self {
            Self::Bool(value) => Attr::Bool(value),
            Self::Int(value) => Attr::Int(value),
            Self::Double(value) => Attr::Double(value),
            Self::Text(value) => Attr::Text(value.into()),
            Self::Dtype(name) => {
                let dtype = DType::ALL.iter().copied().find(|dtype| dtype.name() == name);
                Attr::DType(dtype.ok_or_else(|| format!("dtype {name:?} is not known"))?)
            }
            Self::Ints(values) => Attr::Ints(values.into()),
            Self::Doubles(values) => Attr::Doubles(values.into()),
        })
    }
}

fn describe(optimizer: &Optimizer) -> OptimizerJson {
    fn attributes<'a>(
        pairs: impl Iterator<Item = (&'static str, &'a Attr)>,
    ) -> BTreeMap<String, AttrJson> {
        pairs.filter_map(|(name, attr)| Some((name.to_owned(), AttrJson::new(attr)?))).collect()
    }
    OptimizerJson {
        name: optimizer.def().name.to_owned(),
        hyperparameters: attributes(optimizer.hyperparameters()),
        schedule: optimizer.schedule().map(|schedule| ScheduleJson {
            name: schedule.def().name.to_owned(),
            attributes: attributes(schedule.attrs()),
        }),
    }
}

fn json(value: &impl Serialize) -> Result<String, ProtocolError> {
    serde_json::to_string(value).map_err(|error| invalid(error.to_string()))
}

fn parse<T: for<'de> Deserialize<'de>>(
    metadata: &BTreeMap<String, String>,
    key: &str,
) -> Result<T, ProtocolError> {
    let text = metadata.get(key).ok_or_else(|| invalid(format!("{key} is missing")))?;
    serde_json::from_str(text).map_err(|error| invalid(format!("{key}: {error}")))
}

fn ints<const N: usize>(
    numbers: &HashMap<String, Tensor>,
    key: &str,
) -> Result<[i64; N], ProtocolError> {
    let elements = numbers.get(key).and_then(|tensor| tensor.array().elements::<i64>().ok());
    let elements = elements.and_then(|elements| elements.try_into().ok());
    elements.ok_or_else(|| invalid(format!("tensor {key:?} is missing or another")))
}

fn scalar(dtype: DType, bytes: [u8; 8]) -> Result<Tensor, ProtocolError> {
    own(&Aval::new(dtype, []), &bytes)
}

/// A few bytes of ours, which no session pays for.
fn own(aval: &Aval, bytes: &[u8]) -> Result<Tensor, ProtocolError> {
    Ok(Tensor::from_bytes(&Ledger::new("checkpoint", bytes.len() as u64), aval, bytes)?)
}
