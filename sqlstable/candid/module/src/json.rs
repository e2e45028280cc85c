//! JSON for values of known types, as the documentation of the Python side describes it.

use crate::failure::{Failure, Outcome};
use crate::values::counted;
use candid::types::value::{IDLArgs, IDLField, IDLValue, VariantValue};
use candid::types::{Field, Label, Type, TypeEnv, TypeInner};
use candid::Principal;
use serde_json::{Map, Value};

/// Integers beyond it are texts in JSON that is written: many readers have 64-bit floats only.
const EXACT_MAX: u64 = (1 << 53) - 1;

pub fn arguments(data: &str, env: &TypeEnv, types: &[Type]) -> Outcome<IDLArgs> {
    let value: Value = serde_json::from_str(data).map_err(|error| {
        let mut failure = Failure::new(format!("this is no JSON: {error}"));
        failure.span = place(data, error.line(), error.column());
        failure
    })?;
    // An array has the arguments; anything else is the only one.
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    if values.len() > types.len() {
        return Err(Failure::new(format!(
            "{} given, and {} taken; a JSON array has one element for each \
             argument, so a single array as argument is written [[…]]",
            counted(values.len()),
            types.len()
        )));
    }
    let mut args = Vec::new();
    for (index, (value, kind)) in values.iter().zip(types).enumerate() {
        let path = format!("$[{index}]");
        args.push(Reader { env }.read(value, kind, &path)?);
    }
    Ok(IDLArgs { args })
}

fn place(data: &str, line: usize, column: usize) -> Option<std::ops::Range<usize>> {
    let before: usize = data
        .split_inclusive('\n')
        .take(line.checked_sub(1)?)
        .map(str::len)
        .sum();
    let at = (before + column.saturating_sub(1)).min(data.len());
    Some(at..at)
}

struct Reader<'a> {
    env: &'a TypeEnv,
}

impl Reader<'_> {
    fn read(&self, value: &Value, kind: &Type, path: &str) -> Outcome<IDLValue> {
        let traced = self.env.trace_type(kind)?;
        let wrong = |wanted: &str| {
            Failure::new(format!(
                "{path}: {value} cannot be of type {kind}; {wanted} is expected"
            ))
        };
        Ok(match traced.as_ref() {
            TypeInner::Null | TypeInner::Reserved => match value {
                Value::Null => IDLValue::Null,
                _ => return Err(wrong("null")),
            },
            TypeInner::Bool => IDLValue::Bool(value.as_bool().ok_or_else(|| wrong("true or false"))?),
            TypeInner::Text => {
                IDLValue::Text(value.as_str().ok_or_else(|| wrong("a string"))?.to_string())
            }
            TypeInner::Float32 | TypeInner::Float64 => IDLValue::Float64(
                float(value).ok_or_else(|| wrong("a number, or \"NaN\", \"Infinity\", \"-Infinity\","))?,
            ),
            TypeInner::Principal => IDLValue::Principal(
                principal(value).ok_or_else(|| wrong("the text of a principal"))?,
            ),
            TypeInner::Service(_) => IDLValue::Service(
                principal(value).ok_or_else(|| wrong("the text of a principal"))?,
            ),
            TypeInner::Func(_) => function(value)
                .ok_or_else(|| wrong("{\"principal\": \"…\", \"method\": \"…\"}"))?,
            TypeInner::Opt(inner) => self.read_opt(value, inner, path)?,
            TypeInner::Vec(inner) => match (value, self.env.trace_type(inner)?.as_ref()) {
                (Value::Array(values), _) => {
                    let mut read = Vec::with_capacity(values.len());
                    for (index, value) in values.iter().enumerate() {
                        read.push(self.read(value, inner, &format!("{path}[{index}]"))?);
                    }
                    IDLValue::Vec(read)
                }
                (_, TypeInner::Nat8) => IDLValue::Blob(blob(value).ok_or_else(|| {
                    wrong("\"0x\" with hexadecimal digits, an array of bytes, {\"base64\": \"…\"} or {\"text\": \"…\"}")
                })?),
                _ => return Err(wrong("an array")),
            },
            TypeInner::Record(fields) => match value {
                Value::Object(map) => self.read_record(map, fields, kind, path)?,
                Value::Array(values) if is_tuple(fields) => {
                    if values.len() != fields.len() {
                        return Err(wrong(&format!("an array of {}", fields.len())));
                    }
                    let mut read = Vec::new();
                    for (field, value) in fields.iter().zip(values) {
                        let path = format!("{path}[{}]", field.id.get_id());
                        read.push(IDLField {
                            id: field.id.as_ref().clone(),
                            val: self.read(value, &field.ty, &path)?,
                        });
                    }
                    IDLValue::Record(read)
                }
                _ => return Err(wrong("an object")),
            },
            TypeInner::Variant(fields) => self.read_variant(value, fields, kind, path)?,
            TypeInner::Empty => return Err(wrong("nothing")),
            _ => IDLValue::Number(integer(value).ok_or_else(|| wrong("an integer, as number or text,"))?),
        })
    }

    /// null is none; where the value itself could be null, some is an array of it.
    fn read_opt(&self, value: &Value, inner: &Type, path: &str) -> Outcome<IDLValue> {
        if value.is_null() {
            return Ok(IDLValue::None);
        }
        let is_nullable = matches!(
            self.env.trace_type(inner)?.as_ref(),
            TypeInner::Opt(_) | TypeInner::Null | TypeInner::Reserved
        );
        let read = match value {
            Value::Array(values) if is_nullable => match values.as_slice() {
                [value] => self.read(value, inner, &format!("{path}[0]"))?,
                _ => {
                    return Err(Failure::new(format!(
                        "{path}: an opt {inner} is null, or an array of its one value"
                    )))
                }
            },
            _ if is_nullable => {
                return Err(Failure::new(format!(
                    "{path}: {value} cannot be of type opt {inner}; [{value}] is expected, since \
                     what is inside may be null too"
                )))
            }
            _ => self.read(value, inner, path)?,
        };
        Ok(IDLValue::Opt(Box::new(read)))
    }

    fn read_record(
        &self,
        map: &Map<String, Value>,
        fields: &[Field],
        kind: &Type,
        path: &str,
    ) -> Outcome<IDLValue> {
        let mut read = Vec::new();
        for (name, value) in map {
            let field = find(fields, name).ok_or_else(|| {
                Failure::new(format!(
                    "{path}: {kind} has no field {name:?}; {}",
                    known(fields)
                ))
            })?;
            read.push(IDLField {
                id: field.id.as_ref().clone(),
                val: self.read(value, &field.ty, &format!("{path}.{name}"))?,
            });
        }
        Ok(IDLValue::Record(read))
    }

    fn read_variant(
        &self,
        value: &Value,
        fields: &[Field],
        kind: &Type,
        path: &str,
    ) -> Outcome<IDLValue> {
        let (name, inner) = match value {
            Value::String(name) => (name, &Value::Null),
            Value::Object(map) if map.len() == 1 => map.iter().next().expect("one entry"),
            _ => {
                return Err(Failure::new(format!(
                    "{path}: {value} cannot be of type {kind}; {{\"case\": value}} is expected; {}",
                    known(fields)
                )))
            }
        };
        let field = find(fields, name).ok_or_else(|| {
            Failure::new(format!(
                "{path}: {kind} has no case {name:?}; {}",
                known(fields)
            ))
        })?;
        let field = IDLField {
            id: field.id.as_ref().clone(),
            val: self.read(inner, &field.ty, &format!("{path}.{name}"))?,
        };
        Ok(IDLValue::Variant(VariantValue(Box::new(field), 0)))
    }
}

fn is_tuple(fields: &[Field]) -> bool {
    fields.iter().enumerate().all(|(index, field)| {
        !matches!(field.id.as_ref(), Label::Named(_)) && field.id.get_id() as usize == index
    })
}

/// The field of a name; one that has only a number has its decimal digits.
fn find<'a>(fields: &'a [Field], name: &str) -> Option<&'a Field> {
    fields.iter().find(|field| match field.id.as_ref() {
        Label::Named(own) => own == name,
        Label::Id(number) | Label::Unnamed(number) => number.to_string() == name,
    })
}

fn known(fields: &[Field]) -> String {
    let names: Vec<String> = fields.iter().map(|field| key(&field.id)).collect();
    format!("there are {}", names.join(", "))
}

fn key(label: &Label) -> String {
    match label {
        Label::Named(name) => name.clone(),
        Label::Id(number) | Label::Unnamed(number) => number.to_string(),
    }
}

fn integer(value: &Value) -> Option<String> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim_start_matches('+').replace('_', ""),
        _ => return None,
    };
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let is_integer = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_integer.then_some(text)
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.to_string().parse().ok(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn principal(value: &Value) -> Option<Principal> {
    Principal::from_text(value.as_str()?).ok()
}

fn function(value: &Value) -> Option<IDLValue> {
    let map = value.as_object()?;
    Some(IDLValue::Func(
        principal(map.get("principal")?)?,
        map.get("method")?.as_str()?.to_string(),
    ))
}

fn blob(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => unhex(text.strip_prefix("0x")?),
        Value::Object(map) if map.len() == 1 => match map.iter().next()? {
            (name, Value::String(text)) if name == "hex" => unhex(text),
            (name, Value::String(text)) if name == "base64" => unbase64(text),
            (name, Value::String(text)) if name == "text" => Some(text.clone().into_bytes()),
            _ => None,
        },
        _ => None,
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() % 2 != 0 || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

/// RFC 4648, both alphabets, with padding or without.
fn unbase64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0 && count != 6).then_some(bytes)
}

// -- written ---------------------------------------------------------------------------------------

/// An array of the values.
pub fn written(values: &IDLArgs) -> String {
    let mut out = String::new();
    list(&mut out, '[', ']', values.args.iter(), write);
    out
}

fn write(out: &mut String, value: &IDLValue) {
    use IDLValue::*;
    match value {
        Null | None | Reserved => out.push_str("null"),
        Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Text(text) => quoted(out, text),
        Number(digits) => write_integer(out, digits),
        Int(value) => write_integer(out, &value.0.to_string()),
        Nat(value) => write_integer(out, &value.0.to_string()),
        Nat8(value) => out.push_str(&value.to_string()),
        Nat16(value) => out.push_str(&value.to_string()),
        Nat32(value) => out.push_str(&value.to_string()),
        Nat64(value) => write_integer(out, &value.to_string()),
        Int8(value) => out.push_str(&value.to_string()),
        Int16(value) => out.push_str(&value.to_string()),
        Int32(value) => out.push_str(&value.to_string()),
        Int64(value) => write_integer(out, &value.to_string()),
        Float32(value) => write_float(
            out,
            value.is_finite(),
            f64::from(*value),
            format!("{value:?}"),
        ),
        Float64(value) => write_float(out, value.is_finite(), *value, format!("{value:?}")),
        Opt(inner) => match inner.as_ref() {
            Null | None | Reserved | Opt(_) => {
                list(out, '[', ']', std::iter::once(inner.as_ref()), write)
            }
            inner => write(out, inner),
        },
        Blob(bytes) => write_blob(out, bytes.iter().copied()),
        Vec(values) => list(out, '[', ']', values.iter(), write),
        Record(fields) => write_record(out, fields),
        Variant(variant) => list(
            out,
            '{',
            '}',
            std::iter::once(variant.0.as_ref()),
            write_field,
        ),
        Principal(id) | Service(id) => quoted(out, &id.to_text()),
        Func(id, method) => {
            out.push_str("{\"principal\": ");
            quoted(out, &id.to_text());
            out.push_str(", \"method\": ");
            quoted(out, method);
            out.push('}');
        }
    }
}

fn write_record(out: &mut String, fields: &[IDLField]) {
    let is_tuple = !fields.is_empty()
        && fields.iter().enumerate().all(|(index, field)| {
            !matches!(field.id, Label::Named(_)) && field.id.get_id() as usize == index
        });
    if is_tuple {
        list(out, '[', ']', fields.iter(), |out, field| {
            write(out, &field.val)
        });
    } else {
        list(out, '{', '}', fields.iter(), write_field);
    }
}

fn write_field(out: &mut String, field: &IDLField) {
    quoted(out, &key(&field.id));
    out.push_str(": ");
    write(out, &field.val);
}

fn write_integer(out: &mut String, digits: &str) {
    let size = digits.trim_start_matches('-').parse::<u64>();
    if size.is_ok_and(|size| size <= EXACT_MAX) {
        out.push_str(digits);
    } else {
        quoted(out, digits);
    }
}

fn write_float(out: &mut String, is_finite: bool, value: f64, digits: String) {
    if is_finite {
        out.push_str(&digits);
    } else if value.is_nan() {
        out.push_str("\"NaN\"");
    } else {
        out.push_str(if value > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        });
    }
}

fn write_blob(out: &mut String, bytes: impl Iterator<Item = u8>) {
    out.push_str("\"0x");
    for byte in bytes {
        out.push_str(&format!("{byte:02x}"));
    }
    out.push('"');
}

fn list<'a, T: 'a>(
    out: &mut String,
    open: char,
    close: char,
    items: impl Iterator<Item = &'a T>,
    each: impl Fn(&mut String, &'a T),
) {
    out.push(open);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        each(out, item);
    }
    out.push(close);
}

fn quoted(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a text is JSON"));
}
