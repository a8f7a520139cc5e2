//! Plugins as WASM components, on wasmtime.

mod cache;
mod instance;
mod random;
mod sandbox;

use std::sync::{Mutex, PoisonError};

use metareward_api::{Kind, OptionError, PluginError, PluginInfo};
use wasmtime::{
    Config, Engine, Store,
    component::{Component, Instance, Linker, types::ComponentItem},
};

pub(crate) use self::instance::{Guest, Kinded};
use self::sandbox::Sandbox;
use crate::{LoadError, Settings, bindings::types as wire, file::PluginFile, log, version, words};

/// The package of the contract, as it stands in the names of a component's imports and exports.
const PACKAGE: &str = "metareward:plugin/";

/// A component, compiled and checked, from which instances are made.
pub(crate) struct LoadedComponent {
    pub kind: Kind,
    pub api_version: String,
    engine: Engine,
    component: Component,
    linker: Linker<Sandbox>,
    settings: Settings,
}

impl LoadedComponent {
    /// Compiles the file, or takes it from the cache, and refuses what it may not ask for.
    pub(crate) fn load(file: &PluginFile, settings: &Settings) -> Result<Self, LoadError> {
        let malformed =
            |error: wasmtime::Error| LoadError::Malformed { expected: "WASM component", message: first_line(&error) };
        let engine = engine().map_err(malformed)?;
        if file.bytes.get(..8).is_some_and(|header| header == b"\0asm\x01\0\0\0") {
            return Err(LoadError::Malformed {
                expected: "WASM component",
                message: "it is a core module; build it for wasm32-wasip2, or make a component of it".to_owned(),
            });
        }
        let component = cache::compiled(&engine, file, settings.cache.as_deref()).map_err(malformed)?;
        let (kind, api_version) = exported(&engine, &component)?;
        version::check(&api_version)?;
        refuse_imports(&engine, &component)?;
        let linker = sandbox::linker(&engine).map_err(|error| LoadError::Failed(first_line(&error)))?;
        Ok(Self { kind, api_version, engine, component, linker, settings: settings.clone() })
    }

    /// A new instance in a store of its own. `name` is what its log lines are signed with.
    fn instantiate(&self, name: &str) -> Result<(Store<Sandbox>, Instance), String> {
        let mut store = Store::new(&self.engine, Sandbox::new(name, self.settings.memory()));
        store.limiter(|sandbox| &mut sandbox.limits);
        // What a call hands over is copied out of the guest's memory; told often enough, a list of a few bytes is any size.
        store.set_hostcall_fuel(self.settings.memory());
        let instance =
            store.set_fuel(self.settings.fuel).and_then(|()| self.linker.instantiate(&mut store, &self.component));
        match instance {
            Ok(instance) => Ok((store, instance)),
            Err(error) => Err(self.trapped(&mut store, &error)),
        }
    }

    /// What went wrong in a call, with the words that came before a trap.
    fn trapped(&self, store: &mut Store<Sandbox>, error: &wasmtime::Error) -> String {
        let sandbox = store.data_mut();
        if sandbox.limits.refused {
            return format!(
                "it wanted more than {} MiB of memory; raise plugins.memory_mib if it needs so much",
                self.settings.memory_mib
            );
        }
        if error.chain().any(|cause| cause.to_string().contains(TOO_MUCH)) {
            return format!(
                "it handed over more than {} MiB in one call; raise plugins.memory_mib if it needs so much",
                self.settings.memory_mib
            );
        }
        if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_some() {
            return "it wanted to end the process, which no plugin can".to_owned();
        }
        match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::OutOfFuel) => format!(
                "it did not end within {} instructions; raise plugins.fuel if it needs so many",
                self.settings.fuel
            ),
            Some(trap) => match sandbox.last_error.take().or_else(|| sandbox.last_printed()) {
                Some(words) => format!("it stopped: {words}"),
                None => format!("it stopped: {trap}"),
            },
            None => format!("it stopped: {}", first_line(error)),
        }
    }
}

/// What wasmtime says, in a type of its own that it keeps to itself, when a guest hands over too much.
const TOO_MUCH: &str = "fuel allocated for hostcalls has been exhausted";

/// The engine's settings are part of what makes results equal everywhere: canonical NaNs, no relaxed SIMD, fuel.
fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config.consume_fuel(true);
    config.cranelift_nan_canonicalization(true);
    config.wasm_relaxed_simd(false);
    Engine::new(&config)
}

/// The kind's interface that the component exports, and the version in its name.
fn exported(engine: &Engine, component: &Component) -> Result<(Kind, String), LoadError> {
    let mut found = Vec::new();
    for (name, item) in component.component_type().exports(engine) {
        let ComponentItem::ComponentInstance(_) = item.ty else { continue };
        let Some((interface, version)) = name.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@')) else {
            continue;
        };
        if let Some(kind) = version::kind(interface) {
            found.push((kind, version.to_owned()));
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(LoadError::NoPlugin(format!("it exports no interface of {PACKAGE}"))),
        _ => Err(LoadError::NoPlugin("it exports several kinds; a component is one plugin".to_owned())),
    }
}

/// Refuses whatever is not in [`sandbox::given`].
fn refuse_imports(engine: &Engine, component: &Component) -> Result<(), LoadError> {
    let imports = component.component_type();
    let refused: Vec<&str> =
        imports.imports(engine).map(|(name, _)| name).filter(|name| !sandbox::given(name)).collect();
    if refused.is_empty() { Ok(()) } else { Err(LoadError::Import(log::clean(&refused.join(", ")))) }
}

/// The first line of an error and of its root: wasmtime's errors end in stack traces.
pub(crate) fn first_line(error: &wasmtime::Error) -> String {
    let mut lines: Vec<String> =
        error.chain().map(|cause| cause.to_string().lines().next().unwrap_or_default().trim().to_owned()).collect();
    lines.dedup();
    lines.retain(|line| !line.is_empty() && !line.starts_with("error while executing at"));
    log::clean(&lines.join(": "))
}

/// A configured plugin of kind `G`: instances are made as threads ask for them, and kept.
pub(crate) struct ComponentPlugin<G> {
    loaded: std::sync::Arc<LoadedComponent>,
    name: String,
    options: String,
    idle: Mutex<Vec<Guest<G>>>,
}

impl<G: Kinded> ComponentPlugin<G> {
    /// Makes the first instance, so that options are refused now.
    pub(crate) fn make(
        loaded: std::sync::Arc<LoadedComponent>,
        name: &str,
        options: String,
    ) -> Result<Self, OptionError> {
        let plugin = Self { loaded, name: name.to_owned(), options, idle: Mutex::new(Vec::new()) };
        let first = plugin.instance().map_err(|error| match error {
            Refused::Options(error) => error,
            Refused::Failed(message) => OptionError::new(format!("it failed over its options: {message}")),
        })?;
        plugin.put_back(first);
        Ok(plugin)
    }

    /// Asks an instance that is free, or a new one. An instance that trapped is dropped with its store.
    pub(crate) fn call<T>(
        &self,
        call: impl Fn(&G, &mut Store<Sandbox>) -> wasmtime::Result<Result<T, wire::PluginError>>,
    ) -> Result<T, PluginError> {
        let free = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut guest = match free {
            Some(guest) => guest,
            None => self.instance().map_err(|refused| PluginError::new(refused.to_string()))?,
        };
        let Guest { store, calls } = &mut guest;
        store.data_mut().begin_call();
        let answer = store.set_fuel(self.loaded.settings.fuel).and_then(|()| call(calls, store));
        match answer {
            Ok(answer) => {
                self.put_back(guest);
                answer.map_err(words::error)
            }
            Err(error) => Err(PluginError::new(self.loaded.trapped(&mut guest.store, &error))),
        }
    }

    fn instance(&self) -> Result<Guest<G>, Refused> {
        let (mut store, instance) = self.loaded.instantiate(&self.name).map_err(Refused::Failed)?;
        let calls = G::of(&mut store, &instance).map_err(|error| Refused::Failed(first_line(&error)))?;
        match calls.configure(&mut store, &self.options) {
            Ok(Ok(())) => Ok(Guest { store, calls }),
            Ok(Err(error)) => Err(Refused::Options(words::refusal(error))),
            Err(error) => Err(Refused::Failed(self.loaded.trapped(&mut store, &error))),
        }
    }

    fn put_back(&self, guest: Guest<G>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(guest);
    }
}

/// Why there is no instance.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Options(OptionError),
    #[error("{0}")]
    Failed(String),
}

/// What the component says of itself: name, version, schema of options.
pub(crate) fn describe<G: Kinded>(
    loaded: &LoadedComponent,
    file: &str,
) -> Result<(PluginInfo, serde_json::Value), LoadError> {
    let (mut store, instance) = loaded.instantiate(file).map_err(LoadError::Failed)?;
    let calls = G::of(&mut store, &instance).map_err(|error| LoadError::Failed(first_line(&error)))?;
    let said = calls.describe(&mut store).map_err(|error| LoadError::Failed(loaded.trapped(&mut store, &error)))?;
    crate::description::read(said, loaded.kind)
}
