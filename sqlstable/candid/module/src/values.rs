//! Values between text, JSON and bytes.

use crate::failure::{Failure, Outcome};
use crate::{json, mismatch};
use candid::types::value::{IDLArgs, IDLValue};
use candid::types::{Label, Type, TypeEnv, TypeInner};
use candid::DecoderConfig;
use std::collections::HashMap;

pub fn encode(data: &str, is_json: bool, env: &TypeEnv, types: &[Type]) -> Outcome<Vec<u8>> {
    let mut given = if is_json {
        json::arguments(data, env, types)?
    } else {
        parsed(data)?
    };
    if given.args.len() > types.len() {
        return Err(Failure::new(format!(
            "{} given, and {} taken",
            counted(given.args.len()),
            types.len()
        )));
    }
    for (index, kind) in types.iter().enumerate().skip(given.args.len()) {
        // What may be left out at the end, by Candid's own rule for records and arguments.
        match env.trace_type(kind)?.as_ref() {
            TypeInner::Opt(_) | TypeInner::Null | TypeInner::Reserved => {
                given.args.push(IDLValue::Null);
            }
            _ => {
                return Err(Failure::new(format!(
                    "{} given, and value {} of type {kind} is missing",
                    counted(given.args.len()),
                    index + 1
                )))
            }
        }
    }
    for (index, (value, kind)) in given.args.iter().zip(types).enumerate() {
        mismatch::check(value, env, kind)
            .map_err(|found| Failure::new(found.of_value(index + 1)))?;
    }
    Ok(given.to_bytes_with_types(env, types)?)
}

pub fn encode_untyped(data: &str) -> Outcome<Vec<u8>> {
    Ok(parsed(data)?.to_bytes()?)
}

pub fn decode(data: &[u8], is_json: bool, env: &TypeEnv, types: &[Type]) -> Outcome<String> {
    let found = IDLArgs::from_bytes_with_types_with_config(data, env, types, &bounds())?;
    Ok(written(&found, is_json))
}

pub fn decode_untyped(
    data: &[u8],
    is_json: bool,
    names: Option<&HashMap<u32, String>>,
) -> Outcome<String> {
    let mut found = IDLArgs::from_bytes_with_config(data, &bounds())?;
    if let Some(names) = names {
        for value in &mut found.args {
            name_labels(value, names);
        }
    }
    Ok(written(&found, is_json))
}

/// "1 value is", "2 values are".
pub fn counted(count: usize) -> String {
    if count == 1 {
        "1 value is".to_string()
    } else {
        format!("{count} values are")
    }
}

/// Text as users write it: values in parentheses, or without them.
fn parsed(data: &str) -> Outcome<IDLArgs> {
    let trimmed = data.trim_start();
    if trimmed.starts_with('(') {
        return Ok(candid_parser::parse_idl_args(data)?);
    }
    // On a line of its own, as a comment may stand before it.
    candid_parser::parse_idl_args(&format!("({data}\n)"))
        .map_err(|error| Failure::from(error).moved(1))
}

/// No bound on work: whoever runs this module bounds instructions and memory.
fn bounds() -> DecoderConfig {
    let mut config = DecoderConfig::new();
    config.set_full_error_message(false);
    config
}

fn written(values: &IDLArgs, is_json: bool) -> String {
    if is_json {
        json::written(values)
    } else {
        values.to_string()
    }
}

fn name_labels(value: &mut IDLValue, names: &HashMap<u32, String>) {
    match value {
        IDLValue::Opt(inner) => name_labels(inner, names),
        IDLValue::Vec(values) => values.iter_mut().for_each(|it| name_labels(it, names)),
        IDLValue::Record(fields) => {
            for field in fields {
                name_label(&mut field.id, names);
                name_labels(&mut field.val, names);
            }
        }
        IDLValue::Variant(variant) => {
            name_label(&mut variant.0.id, names);
            name_labels(&mut variant.0.val, names);
        }
        _ => (),
    }
}

fn name_label(label: &mut Label, names: &HashMap<u32, String>) {
    if let Label::Id(number) = label {
        if let Some(name) = names.get(number) {
            *label = Label::Named(name.clone());
        }
    }
}
