//! Where a value does not have its type.

use candid::types::value::IDLValue;
use candid::types::{Type, TypeEnv, TypeInner};

/// The innermost place at which value and type part.
pub struct Mismatch {
    path: Vec<String>,
    message: String,
}

impl Mismatch {
    pub fn of_value(&self, number: usize) -> String {
        let path: String = self
            .path
            .iter()
            .rev()
            .map(|step| format!(", {step}"))
            .collect();
        format!("value {number}{path}: {}", self.message)
    }

    fn within(mut self, step: String) -> Self {
        self.path.push(step);
        self
    }
}

/// Finds out whether a value that was written by hand has a type.
pub fn check(value: &IDLValue, env: &TypeEnv, kind: &Type) -> Result<(), Mismatch> {
    match value.annotate_type(true, env, kind) {
        Ok(_) => Ok(()),
        Err(error) => Err(innermost(value, env, kind, &error.to_string())),
    }
}

fn innermost(value: &IDLValue, env: &TypeEnv, kind: &Type, reason: &str) -> Mismatch {
    let traced = match env.trace_type(kind) {
        Ok(traced) => traced,
        Err(error) => return plain(error.to_string()),
    };
    let below = match (value, traced.as_ref()) {
        (IDLValue::Opt(inner), TypeInner::Opt(kind)) => {
            return check(inner, env, kind)
                .err()
                .unwrap_or_else(|| plain(reason.to_string()))
        }
        (IDLValue::Vec(values), TypeInner::Vec(kind)) => values
            .iter()
            .enumerate()
            .find_map(|(i, it)| Some(check(it, env, kind).err()?.within(format!("element {i}")))),
        (IDLValue::Record(fields), TypeInner::Record(kinds)) => fields.iter().find_map(|field| {
            let kind = &kinds.iter().find(|kind| *kind.id == field.id)?.ty;
            Some(
                check(&field.val, env, kind)
                    .err()?
                    .within(format!("field {}", field.id)),
            )
        }),
        (IDLValue::Variant(variant), TypeInner::Variant(kinds)) => {
            match kinds.iter().find(|kind| *kind.id == variant.0.id) {
                Some(kind) => check(&variant.0.val, env, &kind.ty)
                    .err()
                    .map(|found| found.within(format!("case {}", variant.0.id))),
                None => {
                    let known: Vec<String> = kinds.iter().map(|it| it.id.to_string()).collect();
                    Some(plain(format!(
                        "there is no case {}; there are {}",
                        variant.0.id,
                        known.join(", ")
                    )))
                }
            }
        }
        (_, TypeInner::Opt(_)) => Some(plain(format!(
            "{value} cannot be of type {kind}: write opt {value}"
        ))),
        (IDLValue::Number(_), _) => Some(plain(format!("{value} cannot be of type {kind}"))),
        _ => None,
    };
    below.unwrap_or_else(|| plain(reason.trim_start_matches("type mismatch: ").to_string()))
}

fn plain(message: String) -> Mismatch {
    Mismatch {
        path: Vec::new(),
        message,
    }
}
