//! The published schema.

#[test]
fn the_committed_schema_is_the_one_that_is_served() {
    let committed = include_str!("../../schema/schema.graphql");
    assert_eq!(
        bff::bff().sdl(),
        committed,
        "run `just schema` and look at the difference"
    );
}
