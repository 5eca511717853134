//! The language-neutral cases of `tests/conformance`: JSON to commands. The README there defines the format.

use std::collections::HashMap;

use gradtape_client::{
    DType, Spec, TensorData,
    proto::{self, Command, command::Kind},
};
use half::{bf16, f16};
use serde_json::Value;

/// From the names in a case to handles. A name keeps its handle to the end of the case.
pub struct Names<'a> {
    handles: HashMap<String, u64>,
    /// Names under which variables were created, by handle.
    pub variables: HashMap<u64, String>,
    fresh: Box<dyn FnMut() -> u64 + Send + 'a>,
}

impl std::fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.handles).finish()
    }
}

impl<'a> Names<'a> {
    /// Takes handles from here.
    pub fn new(fresh: impl FnMut() -> u64 + Send + 'a) -> Self {
        Self { handles: HashMap::new(), variables: HashMap::new(), fresh: Box::new(fresh) }
    }

    fn handle(&mut self, name: &Value) -> u64 {
        match name.as_str() {
            Some(name) => {
                if let Some(&handle) = self.handles.get(name) {
                    return handle;
                }
                let handle = (self.fresh)();
                self.handles.insert(name.to_owned(), handle);
                handle
            }
            None => 0,
        }
    }

    fn handles(&mut self, names: &Value) -> Vec<u64> {
        list(names).iter().map(|name| self.handle(name)).collect()
    }

    /// The command of a step.
    pub fn command(&mut self, step: &Value) -> Command {
        let (verb, body) = verb(step);
        Command {
            kind: Some(self.kind(verb, body)),
            tag: step["tag"].as_str().unwrap_or_default().to_owned(),
            scope: u32::try_from(step["scope"].as_u64().unwrap_or(0)).expect("a scope"),
        }
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each verb")]
    fn kind(&mut self, verb: &str, body: &Value) -> Kind {
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let mut at = |field: &str| self.handle(&body[field]);
        match verb {
            "constant" => Kind::Constant(proto::Constant {
                output: at("output"),
                source: Some(proto::constant::Source::Tensor(tensor(&body["tensor"]).into())),
            }),
            "op" => Kind::Op(proto::Op {
                name: text("name"),
                inputs: self.handles(&body["inputs"]),
                outputs: self.handles(&body["outputs"]),
                attributes: attributes(&body["attributes"]),
            }),
            "release" => Kind::Release(proto::Release { handles: self.handles(&body["handles"]) }),
            "create_variable" => {
                let variable = at("variable");
                let initial_value = at("initial_value");
                self.variables.insert(variable, text("name"));
                let trainable = body["trainable"].as_bool();
                let name = text("name");
                Kind::CreateVariable(proto::CreateVariable {
                    variable,
                    name,
                    initial_value,
                    trainable,
                })
            }
            "read_variable" => Kind::ReadVariable(proto::ReadVariable {
                variable: at("variable"),
                output: at("output"),
            }),
            "assign_variable" => Kind::AssignVariable(proto::AssignVariable {
                variable: at("variable"),
                value: at("value"),
                mode: assign_mode(body),
            }),
            "scatter_variable" => Kind::ScatterVariable(proto::ScatterVariable {
                variable: at("variable"),
                indices: at("indices"),
                updates: at("updates"),
                mode: assign_mode(body),
            }),
            "list_watched_variables" => {
                Kind::ListWatchedVariables(proto::ListWatchedVariables { tape: at("tape") })
            }
            "create_generator" => Kind::CreateGenerator(proto::CreateGenerator {
                generator: at("generator"),
                seed: body["seed"].as_i64().unwrap_or(0),
            }),
            "next_generator_state" => Kind::NextGeneratorState(proto::NextGeneratorState {
                generator: at("generator"),
                output: at("output"),
                draws: body["draws"].as_i64().unwrap_or(0),
            }),
            "fetch" => Kind::Fetch(proto::Fetch { value: at("value") }),
            "describe" => Kind::Describe(proto::Describe { value: at("value") }),
            "sync" => Kind::Sync(proto::Sync::default()),
            "open_accumulator" => Kind::OpenAccumulator(proto::OpenAccumulator {
                accumulator: at("accumulator"),
                primals: self.handles(&body["primals"]),
                tangents: self.handles(&body["tangents"]),
                paused: body["paused"].as_bool().unwrap_or(false),
            }),
            "read_tangent" => Kind::ReadTangent(proto::ReadTangent {
                accumulator: at("accumulator"),
                values: self.handles(&body["values"]),
                outputs: self.handles(&body["outputs"]),
                unconnected_gradients: unconnected(body),
            }),
            "create_placeholders" => Kind::CreatePlaceholders(proto::CreatePlaceholders {
                like: self.handles(&body["like"]),
                outputs: self.handles(&body["outputs"]),
            }),
            "record_custom_gradient" => Kind::RecordCustomGradient(proto::RecordCustomGradient {
                inputs: self.handles(&body["inputs"]),
                results: self.handles(&body["results"]),
                outputs: self.handles(&body["outputs"]),
                upstream: self.handles(&body["upstream"]),
                gradients: self.handles(&body["gradients"]),
            }),
            "define_function" | "finish_function" | "run_loop" | "branch" | "while_loop"
            | "scan" => self.function_kind(verb, body),
            "call_function" => Kind::CallFunction(proto::CallFunction {
                function: at("function"),
                parameters: self.handles(&body["parameters"]),
                results: self.handles(&body["results"]),
                arguments: self.handles(&body["arguments"]),
                outputs: self.handles(&body["outputs"]),
            }),
            verb if verb.ends_with("_optimizer") => self.optimizer_kind(verb, body),
            tape => self.tape_kind(tape, body),
        }
    }

    fn function_kind(&mut self, verb: &str, body: &Value) -> Kind {
        let function = self.handle(&body["function"]);
        let number = |field: &str| body[field].as_i64().unwrap_or(0);
        match verb {
            "define_function" => Kind::DefineFunction(proto::DefineFunction {
                function,
                parameters: self.handles(&body["parameters"]),
                specs: list(&body["specs"]).iter().map(spec).collect(),
            }),
            "finish_function" => Kind::FinishFunction(proto::FinishFunction {
                function,
                results: self.handles(&body["results"]),
                abandon: body["abandon"].as_bool().unwrap_or(false),
            }),
            "branch" => Kind::Branch(proto::Branch {
                index: self.handle(&body["index"]),
                functions: self.handles(&body["functions"]),
                arguments: self.handles(&body["arguments"]),
                outputs: self.handles(&body["outputs"]),
            }),
            "while_loop" => Kind::WhileLoop(proto::WhileLoop {
                condition: self.handle(&body["condition"]),
                body: self.handle(&body["body"]),
                carried: self.handles(&body["carried"]),
                outputs: self.handles(&body["outputs"]),
                maximum_iterations: body["maximum_iterations"].as_u64().map(whole),
            }),
            "scan" => Kind::Scan(proto::Scan {
                body: self.handle(&body["body"]),
                carried: self.handles(&body["carried"]),
                stacks: self.handles(&body["stacks"]),
                length: body["length"].as_u64().map_or(0, whole),
                reverse: body["reverse"].as_bool().unwrap_or(false),
                outputs: self.handles(&body["outputs"]),
            }),
            "run_loop" => Kind::RunLoop(proto::RunLoop {
                function,
                steps: number("steps"),
                datasets: self.handles(&body["datasets"]),
                batch_size: number("batch_size"),
                shuffle_seed: body["shuffle_seed"].as_i64(),
                arguments: self.handles(&body["arguments"]),
                carried: u32::try_from(number("carried")).expect("a number of arguments"),
                outputs: self.handles(&body["outputs"]),
                report_every: number("report_every"),
                stream_reports: body["stream_reports"].as_bool().unwrap_or(false),
                while_result: body["while_result"]
                    .as_u64()
                    .map(|result| u32::try_from(result).expect("the number of a result")),
            }),
            other => panic!("the verb {other} is not known"),
        }
    }

    fn optimizer_kind(&mut self, verb: &str, body: &Value) -> Kind {
        let optimizer = self.handle(&body["optimizer"]);
        match verb {
            "create_optimizer" => Kind::CreateOptimizer(proto::CreateOptimizer {
                optimizer,
                name: body["name"].as_str().unwrap_or_default().to_owned(),
                hyperparameters: attributes(&body["hyperparameters"]),
                learning_rate_schedule: schedule(&body["learning_rate_schedule"]),
            }),
            "apply_optimizer" => Kind::ApplyOptimizer(proto::ApplyOptimizer {
                optimizer,
                pairs: list(&body["pairs"]).iter().map(|pair| self.pair(pair)).collect(),
            }),
            "set_optimizer" => Kind::SetOptimizer(proto::SetOptimizer {
                optimizer,
                hyperparameters: attributes(&body["hyperparameters"]),
                learning_rate_schedule: schedule(&body["learning_rate_schedule"]),
            }),
            "read_optimizer" => Kind::ReadOptimizer(proto::ReadOptimizer {
                optimizer,
                name: body["name"].as_str().unwrap_or_default().to_owned(),
                variable: self.handle(&body["variable"]),
                output: self.handle(&body["output"]),
            }),
            other => panic!("the verb {other} is not known"),
        }
    }

    fn tape_kind(&mut self, verb: &str, body: &Value) -> Kind {
        let flag = |field: &str| body[field].as_bool().unwrap_or(false);
        let tape = self.handle(&body["tape"]);
        match verb {
            "open_tape" => Kind::OpenTape(proto::OpenTape {
                tape,
                persistent: flag("persistent"),
                watch_accessed_variables: body["watch_accessed_variables"].as_bool(),
                paused: flag("paused"),
            }),
            "watch_tape" => {
                Kind::WatchTape(proto::WatchTape { tape, values: self.handles(&body["values"]) })
            }
            "stop_tape" => Kind::StopTape(proto::StopTape {
                tape,
                require_recording: flag("require_recording"),
            }),
            "resume_tape" => Kind::ResumeTape(proto::ResumeTape { tape }),
            "reset_tape" => Kind::ResetTape(proto::ResetTape { tape }),
            "close_tape" => Kind::CloseTape(proto::CloseTape { tape }),
            "compute_gradient" => Kind::ComputeGradient(proto::ComputeGradient {
                tape,
                targets: self.handles(&body["targets"]),
                sources: self.handles(&body["sources"]),
                outputs: list(&body["outputs"]).iter().map(|out| self.output(out)).collect(),
                output_gradients: self.handles(&body["output_gradients"]),
                expected_kinds: vec![],
                unconnected_gradients: unconnected(body),
            }),
            "explain" => Kind::Explain(proto::Explain {
                tape,
                target: self.handle(&body["target"]),
                source: self.handle(&body["source"]),
            }),
            "compute_jacobian" => Kind::ComputeJacobian(proto::ComputeJacobian {
                tape,
                target: self.handle(&body["target"]),
                sources: self.handles(&body["sources"]),
                outputs: self.handles(&body["outputs"]),
                unconnected_gradients: unconnected(body),
            }),
            "compute_batch_jacobian" => Kind::ComputeBatchJacobian(proto::ComputeBatchJacobian {
                tape,
                target: self.handle(&body["target"]),
                source: self.handle(&body["source"]),
                output: self.handle(&body["output"]),
            }),
            other => panic!("the verb {other} is not known"),
        }
    }

    fn output(&mut self, output: &Value) -> proto::GradientOutput {
        if output.is_object() {
            let gradient = self.handle(&output["gradient"]);
            proto::GradientOutput { gradient, indices: self.handle(&output["indices"]) }
        } else {
            proto::GradientOutput { gradient: self.handle(output), indices: 0 }
        }
    }

    fn pair(&mut self, pair: &Value) -> proto::GradientPair {
        proto::GradientPair {
            variable: self.handle(&pair["variable"]),
            gradient: self.handle(&pair["gradient"]),
            indices: self.handle(&pair["indices"]),
            exclude_from_weight_decay: pair["exclude_from_weight_decay"].as_bool().unwrap_or(false),
            exclude_from_orthogonalization: pair["exclude_from_orthogonalization"]
                .as_bool()
                .unwrap_or(false),
        }
    }
}

/// The verb of a step and its fields.
pub fn verb(step: &Value) -> (&str, &Value) {
    let fields = step.as_object().expect("a step is an object").iter();
    let beside = ["error", "warnings", "tag", "scope"];
    let mut verbs = fields.filter(|(field, _)| !beside.contains(&field.as_str()));
    let (verb, body) = verbs.next().expect("a step has a verb");
    (verb, body)
}

/// A list, or nothing.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A number, which may be one that JSON cannot write.
pub fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().expect("NaN, Infinity or -Infinity"),
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        Value::Number(number) => number.as_f64().expect("a number"),
        Value::Null | Value::Array(_) | Value::Object(_) => panic!("{value} is no number"),
    }
}

/// The name of an element type.
pub fn dtype(name: &str) -> DType {
    match name {
        "float32" => DType::F32,
        "float64" => DType::F64,
        "int32" => DType::I32,
        "int64" => DType::I64,
        "bool" => DType::Bool,
        "float16" => DType::F16,
        "bfloat16" => DType::BF16,
        other => panic!("the dtype {other} is not known"),
    }
}

/// Dtype and shape.
fn spec(value: &Value) -> proto::TensorSpec {
    let dtype = dtype(value["dtype"].as_str().expect("a dtype"));
    (&Spec { dtype, shape: shape(&value["shape"]) }).into()
}

/// Extents.
pub fn shape(value: &Value) -> Vec<i64> {
    list(value).iter().map(|extent| extent.as_i64().expect("an extent")).collect()
}

/// A tensor as the files write it.
pub fn tensor(value: &Value) -> TensorData {
    let shape = shape(&value["shape"]);
    let data = list(&value["data"]);
    let dtype = value["dtype"].as_str().map_or(DType::F32, dtype);
    let integer = |value: &Value| value.as_i64().expect("an integer");
    #[expect(clippy::cast_possible_truncation, reason = "the files write f32 in decimal")]
    match dtype {
        DType::F32 => of(shape, data, |x| number(x) as f32),
        DType::F64 => of(shape, data, number),
        DType::I32 => of(shape, data, |x| i32::try_from(integer(x)).expect("an i32")),
        DType::I64 => of(shape, data, integer),
        DType::Bool => of(shape, data, |x| x.as_bool().expect("a truth value")),
        DType::F16 => of(shape, data, |x| f16::from_f64(number(x))),
        DType::BF16 => of(shape, data, |x| bf16::from_f64(number(x))),
        other => TensorData::from_bytes(Spec { dtype: other, shape }, bytes::Bytes::new()),
    }
}

fn of<T: gradtape_client::Element>(
    shape: Vec<i64>,
    data: &[Value],
    element: impl Fn(&Value) -> T,
) -> TensorData {
    let elements: Vec<T> = data.iter().map(element).collect();
    TensorData::new(shape, &elements)
}

fn unconnected(body: &Value) -> i32 {
    let unconnected = match body["unconnected_gradients"].as_str() {
        None => proto::UnconnectedGradients::Unspecified,
        Some("none") => proto::UnconnectedGradients::None,
        Some("zero") => proto::UnconnectedGradients::Zero,
        Some(other) => panic!("unconnected_gradients {other}"),
    };
    unconnected.into()
}

fn assign_mode(body: &Value) -> i32 {
    let mode = match body["mode"].as_str() {
        None => proto::AssignMode::Unspecified,
        Some("replace") => proto::AssignMode::Replace,
        Some("add") => proto::AssignMode::Add,
        Some("subtract") => proto::AssignMode::Subtract,
        Some(other) => panic!("the mode {other} is not known"),
    };
    mode.into()
}

fn schedule(value: &Value) -> Option<proto::LearningRateSchedule> {
    let name = value["name"].as_str()?.to_owned();
    Some(proto::LearningRateSchedule { name, attributes: attributes(&value["attributes"]) })
}

fn attributes(value: &Value) -> Vec<proto::Attribute> {
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(name, value)| attribute(name, value)).collect()
}

fn attribute(name: &str, typed: &Value) -> proto::Attribute {
    use proto::attribute::Value as Kind;

    let (kind, value) =
        typed.as_object().and_then(|object| object.iter().next()).expect("a type and a value");
    let value = match kind.as_str() {
        "bool" => Kind::BoolValue(value.as_bool().expect("a truth value")),
        "int" => Kind::IntValue(value.as_i64().expect("an integer")),
        "double" => Kind::DoubleValue(number(value)),
        "string" => Kind::StringValue(value.as_str().expect("a text").to_owned()),
        "dtype" => {
            let dtype = dtype(value.as_str().expect("a dtype"));
            Kind::DtypeValue(proto::DataType::from(dtype).into())
        }
        "ints" => Kind::IntsValue(proto::IntegerList { values: shape(value) }),
        "doubles" => Kind::DoublesValue(proto::DoubleList {
            values: list(value).iter().map(number).collect(),
        }),
        other => panic!("the attribute type {other} is not known"),
    };
    proto::Attribute { name: name.to_owned(), value: Some(value) }
}

fn whole(number: u64) -> u32 {
    u32::try_from(number).expect("a number of 32 bits")
}
