//! Relay's connections over a service that hands out page tokens.

use std::convert::Infallible;

use async_graphql::{
    Context, Result,
    connection::{Connection, CursorType, Edge, query},
};
use bff_engine::prelude::*;

use crate::{
    catalog::Product,
    upstreams::{Catalog, shop::catalog::v1::ListProductsRequest},
};

/// Where a product stands: after so many of the page that begins at a token. A service knows where its
/// pages begin, and a client may go on after any edge.
pub(crate) struct Cursor {
    skip: usize,
    page_token: String,
}

impl CursorType for Cursor {
    type Error = Infallible;

    fn decode_cursor(text: &str) -> Result<Self, Infallible> {
        let (skip, page_token) = text.split_once('.').unwrap_or(("0", text));
        Ok(Self {
            skip: skip.parse().unwrap_or(0),
            page_token: page_token.to_owned(),
        })
    }

    fn encode_cursor(&self) -> String {
        format!("{}.{}", self.skip, self.page_token)
    }
}

/// The most products of one page.
const LARGEST_PAGE: usize = 100;

/// `first` products after the cursor `after`.
pub(crate) async fn products(
    ctx: &Context<'_>,
    first: i32,
    after: Option<String>,
) -> Result<Connection<Cursor, Product>> {
    query(
        after,
        None,
        Some(first),
        None,
        |after: Option<Cursor>, _, first, _| async move {
            let (skip, page_token) =
                after.map_or((0, String::new()), |it| (it.skip, it.page_token));
            let wanted = first.unwrap_or(0).min(LARGEST_PAGE);
            let request = ListProductsRequest {
                page_size: (skip + wanted) as i32,
                page_token: page_token.clone(),
            };
            let page = ctx.to::<Catalog>().list_products(request).await?;
            let more = !page.next_page_token.is_empty();
            let mut connection = Connection::new(skip > 0 || !page_token.is_empty(), more);
            let length = page.products.len();
            for (n, product) in page.products.into_iter().enumerate().skip(skip) {
                let cursor = match n + 1 == length && more {
                    true => Cursor {
                        skip: 0,
                        page_token: page.next_page_token.clone(),
                    },
                    false => Cursor {
                        skip: n + 1,
                        page_token: page_token.clone(),
                    },
                };
                connection
                    .edges
                    .push(Edge::new(cursor, Product::from_proto(product)));
            }
            Ok::<_, async_graphql::Error>(connection)
        },
    )
    .await
}
