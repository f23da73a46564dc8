//! What the catalog answers.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status};

use crate::protos::shop::{
    catalog::v1::{
        Availability, BatchGetSellersRequest, BatchGetSellersResponse, CreateProductRequest,
        GetProductRequest, ListProductsRequest, ListProductsResponse, PriceChange, Product, Seller,
        WatchPriceRequest, catalog_server::Catalog,
    },
    common::v1::Money,
};

/// How often a watched price changes.
const PRICE_CHANGES: Duration = Duration::from_secs(1);
const SELLERS: usize = 10;
/// 2026-01-01T00:00:00Z, when the first product was made.
const OPENED: i64 = 1_767_225_600;

pub(crate) struct CatalogService {
    products: Mutex<Vec<Product>>,
    /// The product that each key made.
    made: Mutex<HashMap<String, Product>>,
}

impl Default for CatalogService {
    fn default() -> Self {
        let product = |n: usize| Product {
            id: format!("p-{n}"),
            name: format!("Product {n}"),
            price: Some(Money {
                currency: "EUR".to_owned(),
                cents: 100 * n as i64 - 1,
            }),
            seller_id: format!("s-{}", n % SELLERS + 1),
            availability: match n % 10 {
                0 => Availability::SoldOut.into(),
                _ => Availability::InStock.into(),
            },
            created_at: Some(prost_types::Timestamp {
                seconds: OPENED + n as i64,
                nanos: 0,
            }),
        };
        Self {
            products: Mutex::new((1..=50).map(product).collect()),
            made: Mutex::default(),
        }
    }
}

impl CatalogService {
    fn products(&self) -> Vec<Product> {
        let products = self.products.lock();
        products.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn product(&self, id: &str) -> Result<Product, Status> {
        let found = self.products().into_iter().find(|product| product.id == id);
        found.ok_or_else(|| Status::not_found(format!("there is no product {id}")))
    }
}

#[tonic::async_trait]
impl Catalog for CatalogService {
    async fn get_product(
        &self,
        request: Request<GetProductRequest>,
    ) -> Result<Response<Product>, Status> {
        self.product(&request.into_inner().id).map(Response::new)
    }

    async fn list_products(
        &self,
        request: Request<ListProductsRequest>,
    ) -> Result<Response<ListProductsResponse>, Status> {
        let ListProductsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let start = match page_token.as_str() {
            "" => 0,
            token => token
                .parse()
                .map_err(|_| Status::invalid_argument("page_token is none of ours"))?,
        };
        let size = match page_size {
            ..=0 => 20,
            size => size as usize,
        };
        let products = self.products();
        let end = (start + size).min(products.len());
        Ok(Response::new(ListProductsResponse {
            next_page_token: match end < products.len() {
                true => end.to_string(),
                false => String::new(),
            },
            products: products.into_iter().skip(start).take(size).collect(),
        }))
    }

    async fn batch_get_sellers(
        &self,
        request: Request<BatchGetSellersRequest>,
    ) -> Result<Response<BatchGetSellersResponse>, Status> {
        let tenant = request.metadata().get("x-tenant");
        let tenant = tenant.and_then(|tenant| tenant.to_str().ok());
        let of = tenant.map_or_else(String::new, |tenant| format!(" of {tenant}"));
        let seller = |id: String| {
            let n: usize = id.strip_prefix("s-")?.parse().ok()?;
            let known = (1..=SELLERS).contains(&n);
            known.then(|| Seller {
                name: format!("Seller {n}{of}"),
                id,
            })
        };
        Ok(Response::new(BatchGetSellersResponse {
            sellers: request
                .get_ref()
                .ids
                .iter()
                .cloned()
                .filter_map(seller)
                .collect(),
        }))
    }

    async fn create_product(
        &self,
        request: Request<CreateProductRequest>,
    ) -> Result<Response<Product>, Status> {
        let request = request.into_inner();
        if request.idempotency_key.is_empty() || request.name.trim().is_empty() {
            let problem = "a product needs an idempotency_key and a name";
            return Err(Status::invalid_argument(problem));
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(product) = made.get(&request.idempotency_key) {
            return Ok(Response::new(product.clone()));
        }
        let mut products = self.products.lock().unwrap_or_else(PoisonError::into_inner);
        let product = Product {
            id: format!("p-{}", products.len() + 1),
            name: request.name,
            price: request.price,
            seller_id: request.seller_id,
            availability: Availability::InStock.into(),
            created_at: Some(std::time::SystemTime::now().into()),
        };
        products.push(product.clone());
        made.insert(request.idempotency_key, product.clone());
        Ok(Response::new(product))
    }

    type WatchPriceStream = BoxStream<'static, Result<PriceChange, Status>>;

    async fn watch_price(
        &self,
        request: Request<WatchPriceRequest>,
    ) -> Result<Response<Self::WatchPriceStream>, Status> {
        let product = self.product(&request.into_inner().id)?;
        let changes = futures_util::stream::iter(0..).then(move |n| {
            let (id, price) = (product.id.clone(), product.price.clone());
            async move {
                if n > 0 {
                    tokio::time::sleep(PRICE_CHANGES).await;
                }
                let price = price.map(|price| Money {
                    cents: price.cents + n,
                    ..price
                });
                Ok(PriceChange { id, price })
            }
        });
        Ok(Response::new(changes.boxed()))
    }
}
