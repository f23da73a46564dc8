//! The shop over services that are made up: no catalog, no greeter, no Consul.

use bff_engine::{Code, testing::TestBff};
use shop_bff::shop;

type Checked = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn a_product_is_served_its_seller_is_missing_and_then_the_catalog_fails() -> Checked {
    let shop = TestBff::start(shop()).await?;
    let catalog = shop.made_up("catalog");
    let query = "{ product(id: \"p-7\") { id seller { name } } hello { message } }";
    catalog.on("BatchGetSellers").reply(&());
    let answer = shop.query(query).await;
    assert_eq!(answer["data"]["product"]["id"], "p-7");
    assert_eq!(
        answer["errors"][0]["path"],
        serde_json::json!(["product", "seller"])
    );
    catalog
        .on("GetProduct")
        .fail(Code::Internal, "the disk is gone");
    let answer = shop.query(query).await;
    assert!(answer["data"]["product"].is_null());
    assert!(answer["data"]["hello"]["message"].is_string());
    Ok(())
}

#[tokio::test]
async fn the_sellers_of_a_page_are_asked_for_in_one_call_and_for_one_tenant() -> Checked {
    let shop = TestBff::with(shop(), Some("shop.toml".as_ref()), &[]).await?;
    let shop = shop.header("x-tenant", "acme");
    let query = "{ products(first: 50) { edges { node { seller { id } } } } }";
    let answer = shop.query(query).await;
    assert!(answer["errors"].is_null(), "{answer}");
    assert_eq!(
        answer["data"]["products"]["edges"].as_array().map(Vec::len),
        Some(50)
    );
    let batches = shop.made_up("catalog").received("BatchGetSellers");
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].metadata["x-tenant"], "acme");
    Ok(())
}
