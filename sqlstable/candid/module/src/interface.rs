//! Interfaces: what a `.did` file says, with everything that it imports.

use crate::failure::{Failure, Outcome};
use candid::types::{FuncMode, Label, Type, TypeEnv, TypeInner};
use candid_parser::syntax::{Dec, IDLInitArgs, IDLMergedProg, IDLProg};
use candid_parser::typing::{check_init_args, check_prog};
use std::collections::{HashMap, HashSet};

pub enum Direction {
    Arguments,
    Replies,
    Init,
}

pub struct Interface {
    env: TypeEnv,
    /// None: the file defines types only.
    service: Option<Type>,
    init: Option<Vec<Type>>,
    /// Of labels, by their hashes.
    pub names: HashMap<u32, String>,
}

impl Interface {
    /// Reads one; the imports stand in the order in which their definitions are taken.
    pub fn load(main: &str, init: &str, imports: Vec<(&str, bool, &str)>) -> Outcome<Self> {
        let mut whole = IDLMergedProg::new(parsed(main, "")?);
        for (name, is_service, text) in imports {
            whole
                .merge(is_service, name.to_string(), parsed(text, name)?)
                .map_err(|error| Failure::new(format!("{error:#}")).of(name))?;
        }
        let mut env = TypeEnv::new();
        let program = IDLProg {
            decs: whole.decs(),
            actor: whole
                .resolve_actor()
                .map_err(|error| Failure::new(format!("{error:#}")))?,
        };
        let actor = check_prog(&mut env, &program)?;
        let (mut arguments, service) = match actor {
            None => (None, None),
            Some(actor) => match env.trace_type(&actor)?.as_ref() {
                TypeInner::Class(arguments, service) => {
                    (Some(arguments.clone()), Some(service.clone()))
                }
                _ => (None, Some(actor)),
            },
        };
        if arguments.is_none() && !init.trim().is_empty() {
            let program: IDLInitArgs = init
                .parse()
                .map_err(|error| Failure::from(error).of("candid:args"))?;
            let mut own = TypeEnv::new();
            arguments = Some(check_init_args(&mut own, &env, &program)?);
            env = own;
        }
        let mut found = Interface {
            env,
            service,
            init: arguments,
            names: HashMap::new(),
        };
        found.collect_names();
        Ok(found)
    }

    /// The types that go one way, and the environment that they are defined in.
    pub fn types(&self, direction: Direction, method: &str) -> Outcome<(&TypeEnv, Vec<Type>)> {
        if let Direction::Init = direction {
            return Ok((&self.env, self.init.clone().unwrap_or_default()));
        }
        let service = self
            .service
            .as_ref()
            .ok_or_else(|| Failure::new("the interface has no service, only types"))?;
        let function = self.env.get_method(service, method)?;
        Ok(match direction {
            Direction::Arguments => (&self.env, function.args.clone()),
            _ => (&self.env, function.rets.clone()),
        })
    }

    /// As JSON: `init`, its types or null, and `methods`, each with name, mode and types.
    pub fn describe(&self) -> String {
        let methods: Vec<_> = self
            .methods()
            .iter()
            .filter_map(|(name, kind)| {
                let function = self.env.as_func(kind).ok()?;
                let mode = match function.modes.first() {
                    Some(FuncMode::Query) => "query",
                    Some(FuncMode::CompositeQuery) => "composite_query",
                    Some(FuncMode::Oneway) => "oneway",
                    None => "update",
                };
                Some(serde_json::json!({
                    "name": name,
                    "mode": mode,
                    "arguments": texts(&function.args),
                    "replies": texts(&function.rets),
                }))
            })
            .collect();
        serde_json::json!({
            "init": self.init.as_deref().map(texts),
            "has_service": self.service.is_some(),
            "methods": methods,
        })
        .to_string()
    }

    fn methods(&self) -> Vec<(String, Type)> {
        let service = self.service.as_ref();
        let found = service.and_then(|it| self.env.as_service(it).ok());
        found.map(<[_]>::to_vec).unwrap_or_default()
    }

    fn collect_names(&mut self) {
        let mut names = HashMap::new();
        for kind in self.env.0.values() {
            collect(kind, &mut names);
        }
        for kind in self.service.iter().chain(self.init.iter().flatten()) {
            collect(kind, &mut names);
        }
        self.names = names;
    }
}

/// The imports of a file, one a line: `type` or `service`, then the name as it is written.
pub fn imports(text: &str) -> Outcome<String> {
    let lines: Vec<String> = parsed(text, "")?
        .decs
        .iter()
        .filter_map(|declaration| match declaration {
            Dec::ImportType(name) => Some(format!("type {name}")),
            Dec::ImportServ(name) => Some(format!("service {name}")),
            Dec::TypD(_) => None,
        })
        .collect();
    Ok(lines.join("\n"))
}

/// What keeps users of the old interface from using the new one, as a JSON array of texts.
pub fn incompatibilities(new: &Interface, old: &Interface) -> Outcome<String> {
    let missing = |which| Failure::new(format!("the {which} interface has no service, only types"));
    let of_new = new.service.clone().ok_or_else(|| missing("new"))?;
    let of_old = old.service.clone().ok_or_else(|| missing("old"))?;
    let mut env = new.env.clone();
    let of_old = env.merge_type(old.env.clone(), of_old);
    let found =
        candid::types::subtype::subtype_check_all(&mut HashSet::new(), &env, &of_new, &of_old);
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    Ok(serde_json::json!(texts).to_string())
}

fn parsed(text: &str, source: &str) -> Outcome<IDLProg> {
    text.parse()
        .map_err(|error: candid_parser::Error| Failure::from(error).of(source))
}

fn texts(types: &[Type]) -> Vec<String> {
    types
        .iter()
        .map(|kind| {
            kind.to_string()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

fn collect(kind: &Type, names: &mut HashMap<u32, String>) {
    match kind.as_ref() {
        TypeInner::Opt(inner) | TypeInner::Vec(inner) => collect(inner, names),
        TypeInner::Record(fields) | TypeInner::Variant(fields) => {
            for field in fields {
                if let Label::Named(name) = field.id.as_ref() {
                    names.insert(field.id.get_id(), name.clone());
                }
                collect(&field.ty, names);
            }
        }
        TypeInner::Func(function) => {
            for kind in function.args.iter().chain(&function.rets) {
                collect(kind, names);
            }
        }
        TypeInner::Service(methods) => {
            for (_, kind) in methods {
                collect(kind, names);
            }
        }
        TypeInner::Class(arguments, service) => {
            for kind in arguments {
                collect(kind, names);
            }
            collect(service, names);
        }
        _ => (),
    }
}
