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

# The figures of every fault test, one line each.
faults:
    cargo test --workspace -- --nocapture ::f 2>/dev/null | grep -E '^F[0-9]+ ' | sort -Vu

# Requests at random, answered here and by graphql-js (by Node): just opinion 10000
opinion requests="100000":
    .ci/second-opinion {{requests}}

# The public audit of GraphQL over HTTP, and other people's clients (by Node).
conformance:
    .ci/conformance

# Limits shared in Redis, against a redis-server that the tests start themselves.
redis:
    cargo test --workspace --test it -- redis:: --ignored

# What a pick, a new list, the whole stack, a limit, a trace and a document cost, and what a dead upstream costs
# its neighbour.
bench:
    cargo bench --package bff-engine --features internals --bench balance
    cargo bench --package bff-engine --features internals --bench rate_limit
    cargo bench --package bff-tests --bench stack
    cargo bench --package bff-tests --bench isolation
    cargo bench --package bff-tests --bench edge
    cargo bench --package bff-tests --bench tracing
    cargo bench --package bff-tests --bench graphql

# What clients send, made up by libFuzzer (needs a C++ compiler): just fuzz connection 600, or document, websocket.
fuzz target seconds="60":
    .ci/fuzz {{target}} {{seconds}}

# What a person runs before each commit: under three minutes once it is built.
fast:
    .ci/run fast

# The fixture's promises, asked of a real agent: just contract 127.0.0.1:8500
contract consul:
    CONSUL_HTTP_ADDR={{consul}} cargo test --workspace --test it consul_contract

# The same of Nacos, and what its documents do: just contract-nacos 127.0.0.1:8848
contract-nacos nacos:
    NACOS_ADDR={{nacos}} cargo test --workspace --test it -- nacos_contract reload published_in_nacos

# Traces in a real Jaeger, whose all-in-one program is given: just contract-jaeger ./jaeger
contract-jaeger program:
    .ci/with-server jaeger {{program}} cargo test --workspace --test it -- jaeger_contract --ignored

# A simulated fleet in twenty minutes of weather: writes docs/fleet.md and its pictures.
fleet *args:
    cargo run --profile bench --package bff-tests --bin fleet -- {{args}}
