//! What an owner puts around and beside its upstreams.

use std::{any::TypeId, collections::HashSet, sync::Arc};

use tower::Layer;

use super::{Description, Upstream};
use crate::{
    call::{CallService, Failed, Reply},
    resilience::{Listener, Stack, breaker::BreakerChange},
};

type Wrap = Box<dyn Fn(Stack) -> Stack + Send + Sync>;

/// What an owner puts around and beside its upstreams.
#[derive(Default)]
pub(crate) struct Hooks {
    /// The upstream that each is around, and its name.
    layers: Vec<(TypeId, &'static str, Wrap)>,
    listeners: Vec<Listener>,
}

impl Hooks {
    /// Puts `layer` around the calls to `U`, outside of those that are there.
    pub(crate) fn add_layer<U: Upstream, L>(&mut self, layer: L)
    where
        L: Layer<Stack> + Send + Sync + 'static,
        L::Service: CallService<Future: Future<Output = Result<Reply, Failed>> + Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let wrap = move |stack| Stack::of(layer.layer(stack));
        self.layers
            .push((TypeId::of::<U>(), U::NAME, Box::new(wrap)));
    }

    /// Tells `listener` of every change of a breaker's state.
    pub(crate) fn add_listener(
        &mut self,
        listener: impl Fn(&BreakerChange) + Send + Sync + 'static,
    ) {
        self.listeners.push(Arc::new(listener));
    }

    /// `stack`, which is the upstream `id`'s, with what was put around it.
    pub(super) fn around(&self, id: TypeId, stack: Stack) -> Stack {
        let layers = self.layers.iter().filter(|(of, ..)| *of == id);
        layers.fold(stack, |stack, (.., wrap)| wrap(stack))
    }

    /// The name of an upstream that has a layer and is none of `upstreams`.
    pub(crate) fn around_none_of(&self, upstreams: &[Description]) -> Option<&'static str> {
        let known: HashSet<TypeId> = upstreams.iter().map(Description::id).collect();
        let unknown = self.layers.iter().find(|(of, ..)| !known.contains(of));
        unknown.map(|(_, name, _)| *name)
    }

    pub(super) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }
}
