//! The op table as the catalogue shows it.

use gradtape_engine::{
    attrs::{Attr, AttrSpec, AttrType},
    op::{Derivative, Kernel, OpDef},
    optimizers::{
        self, Common,
        schedules::{self, Warmup},
    },
};
use gradtape_proto::v1::{self, attribute::Value};

use super::encode;

/// Describes an op.
pub fn op_info(op: &OpDef) -> v1::OpInfo {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    v1::OpInfo {
        name: op.name.to_owned(),
        family: op.family.to_owned(),
        inputs: names(op.inputs),
        variadic: op.variadic,
        outputs: names(op.outputs),
        attributes: op.attrs.iter().map(attribute_info).collect(),
        dtypes: op.dtypes.iter().map(|dtype| encode::dtype(dtype).into()).collect(),
        differentiability: differentiability(op).into(),
        summary: op.summary.to_owned(),
        formula: op.formula.to_owned(),
    }
}

fn differentiability(op: &OpDef) -> v1::Differentiability {
    if matches!(op.kernel, Kernel::Composite(_)) {
        // A composite is as smooth as the ops that it is made of.
        return v1::Differentiability::Smooth;
    }
    match op.derivative {
        Derivative::None => v1::Differentiability::None,
        Derivative::Zero => v1::Differentiability::Zero,
        Derivative::Elementwise(_)
        | Derivative::Linear { .. }
        | Derivative::Multilinear { .. }
        | Derivative::Custom { .. } => v1::Differentiability::Smooth,
    }
}

/// Describes the optimizers and schedules.
pub fn optimizers() -> v1::ListOptimizersResponse {
    let infos = |specs: &[AttrSpec]| specs.iter().map(attribute_info).collect();
    v1::ListOptimizersResponse {
        optimizers: optimizers::ALL
            .iter()
            .map(|def| v1::OptimizerInfo {
                name: def.name.to_owned(),
                hyperparameters: infos(def.attrs),
                summary: def.summary.to_owned(),
                formula: def.formula.to_owned(),
            })
            .collect(),
        common_hyperparameters: infos(Common::SPECS),
        schedules: schedules::ALL
            .iter()
            .map(|def| v1::ScheduleInfo {
                name: def.name.to_owned(),
                attributes: infos(def.attrs),
                summary: def.summary.to_owned(),
                formula: def.formula.to_owned(),
            })
            .collect(),
        common_schedule_attributes: infos(Warmup::SPECS),
    }
}

fn attribute_info(spec: &AttrSpec) -> v1::AttributeInfo {
    v1::AttributeInfo {
        name: spec.name.to_owned(),
        r#type: attribute_type(spec.ty).into(),
        default_value: spec.fallback.value().and_then(|attr| attribute(spec.name, attr)),
        documentation: spec.doc.trim().to_owned(),
    }
}

fn attribute_type(ty: AttrType) -> v1::AttributeType {
    match ty {
        AttrType::Bool => v1::AttributeType::Bool,
        AttrType::Int => v1::AttributeType::Integer,
        AttrType::Double => v1::AttributeType::Double,
        AttrType::Text => v1::AttributeType::String,
        AttrType::DType => v1::AttributeType::DataType,
        AttrType::Ints => v1::AttributeType::Integers,
        AttrType::Doubles => v1::AttributeType::Doubles,
    }
}

/// An attribute, unless it is unset.
fn attribute(name: &str, attr: Attr) -> Option<v1::Attribute> {
    let value = match attr {
        Attr::Unset | Attr::Bodies(_) => return None,
        Attr::Bool(value) => Value::BoolValue(value),
        Attr::Int(value) => Value::IntValue(value),
        Attr::Double(value) => Value::DoubleValue(value),
        Attr::Text(value) => Value::StringValue(value.into()),
        Attr::DType(value) => Value::DtypeValue(encode::dtype(value).into()),
        Attr::Ints(values) => Value::IntsValue(v1::IntegerList { values: values.to_vec() }),
        Attr::Doubles(values) => Value::DoublesValue(v1::DoubleList { values: values.to_vec() }),
    };
    Some(v1::Attribute { name: name.to_owned(), value: Some(value) })
}
