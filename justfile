# The commands of everyday work; .ci/run calls the same ones.

# Everything CI checks.
ci:
    .ci/run

# Format, lint, test.
check:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- --deny warnings
    cargo test

# Write the served schema to the file that is committed.
schema:
    cargo run --quiet --package bff -- schema > schema/schema.graphql

# The cost of a pick and of a new list, at 10, 100 and 1000 instances.
bench:
    cargo bench --package bff --bench balance

# The fixture's promises, asked of a real agent: just contract 127.0.0.1:8500
contract consul:
    CONSUL_HTTP_ADDR={{consul}} cargo test --package bff-tests --test it consul_contract
