//! What many commands have: lists of handles, names, attributes and enums.

use gradtape_engine::{
    attrs::{Attr, Doubles, Ints, MAX_INTS, MAX_TEXT},
    command::{AssignMode, Handle},
    dtype::DType,
    error::Error,
};
use gradtape_proto::v1;

use crate::wire::truncated;

/// Longest tag and name, in bytes.
pub(super) const MAX_LABEL: usize = 256;
/// Most handles in a list other than an op's inputs.
pub(super) const MAX_HANDLES: usize = 65_536;
/// Most attributes of an op or optimizer. No table entry comes near.
const MAX_ATTRIBUTES: usize = 64;
/// Longest unknown name that an error repeats, in bytes.
pub(super) const MAX_ECHO: usize = 64;

pub(super) fn attributes(messages: &mut Vec<v1::Attribute>) -> Result<Vec<(String, Attr)>, Error> {
    bounded(messages.len(), MAX_ATTRIBUTES, "attributes")?;
    std::mem::take(messages).into_iter().map(attribute).collect()
}

fn attribute(message: v1::Attribute) -> Result<(String, Attr), Error> {
    use v1::attribute::Value;
    let v1::Attribute { name, value } = message;
    if name.len() > MAX_LABEL {
        return Err(Error::attribute(
            truncated(&name, MAX_ECHO),
            "is unknown: its name is too long",
        ));
    }
    let value = match value {
        Some(Value::BoolValue(value)) => Attr::Bool(value),
        Some(Value::IntValue(value)) => Attr::Int(value),
        Some(Value::DoubleValue(value)) => Attr::Double(value),
        Some(Value::StringValue(value)) if value.len() <= MAX_TEXT => Attr::Text(value.into()),
        Some(Value::StringValue(_)) => {
            return Err(Error::attribute(&name, format!("is longer than {MAX_TEXT} bytes")));
        }
        Some(Value::DtypeValue(value)) => Attr::DType(dtype(value)?),
        Some(Value::IntsValue(list)) if list.values.len() <= MAX_INTS => {
            Attr::Ints(Ints::from_slice(&list.values))
        }
        Some(Value::DoublesValue(list)) if list.values.len() <= MAX_INTS => {
            Attr::Doubles(Doubles::from_slice(&list.values))
        }
        Some(Value::IntsValue(_) | Value::DoublesValue(_)) => {
            return Err(Error::attribute(&name, format!("has more than {MAX_INTS} entries")));
        }
        None => return Err(Error::attribute(&name, "has no value")),
    };
    Ok((name, value))
}

pub(super) fn assign_mode(mode: i32) -> Result<AssignMode, Error> {
    match v1::AssignMode::try_from(mode) {
        Ok(v1::AssignMode::Unspecified | v1::AssignMode::Replace) => Ok(AssignMode::Replace),
        Ok(v1::AssignMode::Add) => Ok(AssignMode::Add),
        Ok(v1::AssignMode::Subtract) => Ok(AssignMode::Subtract),
        Err(_) => Err(malformed("mode", format!("{mode} is not known"))),
    }
}

pub(super) fn dtype(dtype: i32) -> Result<DType, Error> {
    match v1::DataType::try_from(dtype) {
        Ok(v1::DataType::Float32) => Ok(DType::F32),
        Ok(v1::DataType::Float64) => Ok(DType::F64),
        Ok(v1::DataType::Int32) => Ok(DType::I32),
        Ok(v1::DataType::Int64) => Ok(DType::I64),
        Ok(v1::DataType::Bool) => Ok(DType::Bool),
        Ok(v1::DataType::Float16) => Ok(DType::F16),
        Ok(v1::DataType::Bfloat16) => Ok(DType::BF16),
        Ok(v1::DataType::Unspecified) => Err(malformed("dtype", "must be given")),
        Err(_) => Err(malformed("dtype", format!("{dtype} is not known"))),
    }
}

pub(super) fn handles(handles: &[Handle], field: &str) -> Result<Vec<Handle>, Error> {
    bounded(handles.len(), MAX_HANDLES, field)?;
    Ok(handles.to_vec())
}

pub(super) fn label(text: &str, field: &str) -> Result<Box<str>, Error> {
    bounded(text.len(), MAX_LABEL, field)?;
    if text.contains(is_hidden) {
        return Err(malformed(field, "has control characters"));
    }
    Ok(text.into())
}

/// Whether a character changes how a line is read without being seen: it has no place in a name that logs and people read.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

pub(super) fn bounded(given: usize, limit: usize, field: &str) -> Result<(), Error> {
    if given > limit {
        return Err(malformed(field, format!("has {given} entries, {limit} are allowed")));
    }
    Ok(())
}

pub(super) fn malformed(what: &str, why: impl Into<Box<str>>) -> Error {
    Error::Malformed { what: what.into(), why: why.into() }
}
