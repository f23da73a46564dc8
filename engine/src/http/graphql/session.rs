//! What resolvers and the engine have of a request, or of a connection.

use std::{any::TypeId, sync::Arc};

use async_graphql::Data;
use axum::http::{HeaderMap, HeaderValue};

use super::super::{Incoming, RequestData, Served, client};
use crate::{
    call::{ForwardedHeader, forwarded},
    graphql::Forwarded,
    types::ClientKey,
};

/// Bytes of a header that a `connection_init` names: what servers take of a header of their own.
const MAX_HEADER: usize = 8 << 10;

/// Who the client is, what of its headers upstreams are to have, and what the owner makes of it.
///
/// # Errors
/// What is wrong with the headers that a `connection_init` names, for its sender.
pub(crate) fn session(
    served: &Served,
    owners: &RequestData,
    incoming: &Incoming<'_>,
) -> Result<Data, String> {
    let mut data = Data::default();
    data.insert(client::identify(
        &served.clients,
        incoming.peer,
        incoming.trusted,
        incoming.headers,
    ));
    let headers = forwarded(incoming.headers, &served.forward);
    let headers = match incoming.connection_init {
        Some(payload) => with_payload(headers, &served.forward, payload)?,
        None => headers,
    };
    if !headers.is_empty() {
        data.insert(Forwarded(Arc::new(headers)));
    }
    owners.fill(incoming, &mut data);
    Ok(data)
}

/// Whose session it is.
pub(crate) fn client_of(session: &Data) -> Option<ClientKey> {
    let key = session.get(&TypeId::of::<ClientKey>());
    key.and_then(|key| key.downcast_ref()).copied()
}

/// `headers` with those that the keys of a `connection_init` name: a browser cannot set any for a
/// WebSocket. Those that the upgrade has stay: a proxy that has checked who somebody is says so there.
fn with_payload(
    mut headers: HeaderMap,
    forward: &[ForwardedHeader],
    payload: &serde_json::Value,
) -> Result<HeaderMap, String> {
    let upgrade = headers.clone();
    for (key, value) in payload.as_object().into_iter().flatten() {
        let wanted = forward.iter().map(ForwardedHeader::name);
        let wanted = wanted.filter(|name| key.eq_ignore_ascii_case(name.as_str()));
        for name in wanted.filter(|name| !upgrade.contains_key(*name)) {
            let Some(text) = value.as_str() else {
                continue;
            };
            let value = HeaderValue::try_from(text).ok();
            let Some(mut value) = value.filter(|_| text.len() <= MAX_HEADER) else {
                return Err(format!(
                    "connection_init: {key} is no header's value, or longer than {MAX_HEADER} bytes"
                ));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    Ok(headers)
}
